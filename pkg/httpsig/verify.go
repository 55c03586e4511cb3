package httpsig

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/dunglas/httpsfv"
)

// The defaults of a Verifier.
const (
	DefaultMaxAge  = 300 * time.Second
	DefaultMaxSkew = 60 * time.Second
)

// maxLabels is how many signatures of one message are looked at.
const maxLabels = 16

// Key is a key that verifies: a public key, or the secret's bytes for HMAC. Signatures are verified
// with this algorithm, whatever they say.
type Key struct {
	Algorithm Algorithm
	Key       any
}

// Verifier is the policy by which a signature is believed. It believes a message if one of its
// signatures is by a known key, covers and states what is required, is of this time, verifies, and
// if the body matches the Content-Digest that it covers. Signatures by unknown keys do no harm.
type Verifier struct {
	// Keys finds the key of a keyid.
	Keys func(keyID string) (Key, bool)
	// Components must be covered by each signature that counts.
	Components []string
	// BodyComponents must be covered too if there is a body.
	BodyComponents []string
	// Tag, if set, is the tag that the signature must have.
	Tag string
	// RequireExpires refuses signatures that do not say when they expire.
	RequireExpires bool
	// MaxAge is how long after its creation a signature counts at most. Default DefaultMaxAge.
	MaxAge time.Duration
	// MaxSkew is how far in the future its creation may lie. Default DefaultMaxSkew.
	MaxSkew time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verified is the signature that was believed.
type Verified struct {
	Label, KeyID     string
	Algorithm        Algorithm
	Components       []string // as Params.Components
	Created, Expires time.Time
	Nonce, Tag       string
}

// claim is what a member of Signature-Input says.
type claim struct {
	Verified
	components []component
	params     string // @signature-params
	signature  []byte
}

// Verify finds a signature of the message that the policy believes. The body is the content as it
// was sent. If there is none, the error is that of the first signature by a known key.
func (v *Verifier) Verify(m *Message, body []byte) (*Verified, error) {
	inputs, signatures, err := members(m.Header)
	if err != nil {
		return nil, err
	}
	labels := inputs.Names()
	if len(labels) > maxLabels {
		return nil, fmt.Errorf("%w: more than %d signatures", ErrMalformed, maxLabels)
	}
	err = ErrMissing
	for _, label := range labels {
		c, failed := readClaim(label, inputs, signatures)
		if failed == nil {
			failed = v.believe(c, m, body)
		}
		if failed == nil {
			return &c.Verified, nil
		}
		if errors.Is(err, ErrMissing) || errors.Is(err, ErrUnknownKey) {
			err = failed
		}
	}
	return nil, err
}

// members are the dictionaries of the two headers.
func members(h http.Header) (inputs, signatures *httpsfv.Dictionary, err error) {
	for _, d := range []struct {
		name string
		to   **httpsfv.Dictionary
	}{{HeaderSignatureInput, &inputs}, {HeaderSignature, &signatures}} {
		values := h.Values(d.name)
		if len(values) == 0 {
			return nil, nil, fmt.Errorf("%w: no field %s", ErrMissing, d.name)
		}
		if *d.to, err = httpsfv.UnmarshalDictionary(values); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrMalformed, d.name, err)
		}
	}
	return inputs, signatures, nil
}

// readClaim reads what both headers say of a label.
func readClaim(label string, inputs, signatures *httpsfv.Dictionary) (*claim, error) {
	member, _ := inputs.Get(label)
	list, ok := member.(httpsfv.InnerList)
	if !ok {
		return nil, fmt.Errorf("%w: Signature-Input: %.64q is no list of components", ErrMalformed, label)
	}
	c := &claim{Verified: Verified{Label: label}}
	for _, item := range list.Items {
		part, err := componentOf(item)
		if err != nil {
			return nil, err
		}
		c.components = append(c.components, part)
		c.Components = append(c.Components, part.shown())
	}
	if err := checkComponents(c.components); err != nil {
		return nil, err
	}
	if err := c.readParams(list.Params); err != nil {
		return nil, err
	}
	var err error
	if c.params, err = httpsfv.Marshal(list); err != nil {
		return nil, fmt.Errorf("%w: Signature-Input: %w", ErrMalformed, err)
	}
	member, ok = signatures.Get(label)
	if !ok {
		return nil, fmt.Errorf("%w: Signature has no %.64q", ErrMissing, label)
	}
	item, _ := member.(httpsfv.Item)
	if c.signature, ok = item.Value.([]byte); !ok {
		return nil, fmt.Errorf("%w: Signature: %.64q is no byte sequence", ErrMalformed, label)
	}
	return c, nil
}

// shown is the identifier as Params.Components has it.
func (c *component) shown() string {
	if c.text == `"`+c.name+`"` {
		return c.name
	}
	return c.text
}

// readParams reads the parameters that are known; others are covered, and mean nothing here.
func (c *claim) readParams(params *httpsfv.Params) error {
	for _, name := range params.Names() {
		value, _ := params.Get(name)
		ok := true
		switch name {
		case "created":
			c.Created, ok = timeOf(value)
		case "expires":
			c.Expires, ok = timeOf(value)
		case "keyid":
			c.KeyID, ok = value.(string)
		case "alg":
			var alg string
			alg, ok = value.(string)
			c.Algorithm = Algorithm(alg)
		case "nonce":
			c.Nonce, ok = value.(string)
		case "tag":
			c.Tag, ok = value.(string)
		}
		if !ok {
			return fmt.Errorf("%w: parameter %q of %.64q has the wrong type", ErrMalformed, name, c.Label)
		}
	}
	return nil
}

func timeOf(value any) (time.Time, bool) {
	seconds, ok := value.(int64)
	return time.Unix(seconds, 0).UTC(), ok
}

// believe is the policy. The cheap questions come first, the signature before the digest.
func (v *Verifier) believe(c *claim, m *Message, body []byte) error {
	if c.KeyID == "" {
		return fmt.Errorf("%w: parameter keyid", ErrPolicy)
	}
	key, ok := v.Keys(c.KeyID)
	if !ok {
		return ErrUnknownKey
	}
	if err := checkKey(key.Algorithm, key.Key); err != nil {
		return err
	}
	if c.Algorithm != "" && c.Algorithm != key.Algorithm {
		return fmt.Errorf("%w: %.64q", ErrAlgorithm, string(c.Algorithm))
	}
	c.Algorithm = key.Algorithm
	if err := v.checkCover(c, len(body) > 0); err != nil {
		return err
	}
	if err := v.checkTime(c); err != nil {
		return err
	}
	base, err := signatureBase(m, c.components, c.params)
	if err != nil {
		return err
	}
	if !verifies(key.Algorithm, key.Key, base, c.signature) {
		return ErrSignature
	}
	for i := range c.components {
		if p := &c.components[i]; p.name == "content-digest" && !p.req {
			return CheckContentDigest(m.Header, body)
		}
	}
	return nil
}

// checkCover checks that everything that is required is covered and stated.
func (v *Verifier) checkCover(c *claim, hasBody bool) error {
	required := v.Components
	if hasBody {
		required = slices.Concat(v.Components, v.BodyComponents)
	}
	for _, text := range required {
		want, err := parseComponent(text)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(c.components, want.same) {
			return fmt.Errorf("%w: component %s", ErrPolicy, want.text)
		}
	}
	switch {
	case c.Created.IsZero():
		return fmt.Errorf("%w: parameter created", ErrPolicy)
	case v.RequireExpires && c.Expires.IsZero():
		return fmt.Errorf("%w: parameter expires", ErrPolicy)
	case v.Tag != "" && c.Tag != v.Tag:
		return fmt.Errorf("%w: tag %q", ErrPolicy, v.Tag)
	}
	return nil
}

// checkTime checks that the signature is of this time.
func (v *Verifier) checkTime(c *claim) error {
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	maxAge, maxSkew := v.MaxAge, v.MaxSkew
	if maxAge <= 0 {
		maxAge = DefaultMaxAge
	}
	if maxSkew <= 0 {
		maxSkew = DefaultMaxSkew
	}
	switch {
	case c.Created.After(now.Add(maxSkew)):
		return ErrFuture
	case now.After(c.Created.Add(maxAge)), !c.Expires.IsZero() && !c.Expires.After(now):
		return ErrExpired
	}
	return nil
}
