package httpsig

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Signer signs with one key. It may be used from many goroutines.
type Signer struct {
	alg   Algorithm
	keyID string
	sign  func(base []byte) ([]byte, error)
}

// NewSigner makes a signer. The key is a crypto.Signer, or the secret's bytes for HMAC.
func NewSigner(alg Algorithm, keyID string, key any) (*Signer, error) {
	if keyID == "" {
		return nil, fmt.Errorf("%w: no keyid", ErrMalformed)
	}
	if err := quote(&strings.Builder{}, keyID); err != nil {
		return nil, err
	}
	sign, err := signFunc(alg, key)
	if err != nil {
		return nil, err
	}
	return &Signer{alg: alg, keyID: keyID, sign: sign}, nil
}

// KeyID is the keyid of its signatures.
func (s *Signer) KeyID() string { return s.keyID }

// Algorithm is the algorithm of its signatures.
func (s *Signer) Algorithm() Algorithm { return s.alg }

// Sign sets Signature-Input and Signature in m.Header, with the labels sig1, sig2, ... in the order
// of the signers. It replaces what they held.
func Sign(m *Message, p *Params, signers ...*Signer) error {
	if len(signers) == 0 {
		return fmt.Errorf("%w: no key to sign with", ErrKey)
	}
	components, err := parseComponents(p.Components)
	if err != nil {
		return err
	}
	list := listText(components)
	var input, signature strings.Builder
	for i, s := range signers {
		params, err := p.text(list, s)
		if err != nil {
			return err
		}
		base, err := signatureBase(m, components, params)
		if err != nil {
			return err
		}
		sig, err := s.sign(base)
		if err != nil {
			return fmt.Errorf("sign with key %s: %w", s.keyID, err)
		}
		if i > 0 {
			input.WriteString(", ")
			signature.WriteString(", ")
		}
		label := "sig" + strconv.Itoa(i+1)
		input.WriteString(label + "=" + params)
		signature.WriteString(label + "=:" + base64.StdEncoding.EncodeToString(sig) + ":")
	}
	if m.Header == nil {
		m.Header = http.Header{}
	}
	m.Header.Set(HeaderSignatureInput, input.String())
	m.Header.Set(HeaderSignature, signature.String())
	return nil
}

// text is the value of @signature-params, which is also the member of Signature-Input.
func (p *Params) text(list string, s *Signer) (string, error) {
	var b strings.Builder
	b.WriteString(list)
	for _, t := range [...]struct {
		name string
		time.Time
	}{{"created", p.Created}, {"expires", p.Expires}} {
		if t.IsZero() {
			continue
		}
		if t.Unix() < 0 || t.Unix() > maxInteger {
			return "", fmt.Errorf("%w: %s is no time that can be stated", ErrMalformed, t.name)
		}
		b.WriteString(";" + t.name + "=" + strconv.FormatInt(t.Unix(), 10))
	}
	for _, param := range [...]struct{ name, value string }{
		{"nonce", p.Nonce}, {"keyid", s.keyID}, {"alg", string(s.alg)}, {"tag", p.Tag},
	} {
		if param.value == "" {
			continue
		}
		b.WriteString(";" + param.name + "=")
		if err := quote(&b, param.value); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// maxInteger is the largest integer of a structured field (RFC 9651, section 3.3.1).
const maxInteger = 999_999_999_999_999
