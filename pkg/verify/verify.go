package verify

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/signature"
)

// Why a request is not believed. Every error of Verify is one of these.
var (
	// ErrMissingHeader means that a header of the signature is absent or repeated.
	ErrMissingHeader = signature.ErrMissingHeader
	// ErrTimestamp means that the request's time is no number, too old, or in the future.
	ErrTimestamp = signature.ErrTimestamp
	// ErrNoMatch means that no signature belongs to the request and one of the secrets or keys.
	ErrNoMatch = signature.ErrNoMatch
	// ErrReplay means that this very request was taken before.
	ErrReplay = errors.New("the request was taken before")
)

// DefaultTolerance is how far a request's time may be from our own clock, either way.
const DefaultTolerance = signature.DefaultTolerance

// Options are what a Verifier may be told. The zero value is good for most.
type Options struct {
	// Tolerance is how far a request's time may be from our own clock, either way. Default
	// DefaultTolerance.
	Tolerance time.Duration
	// Window refuses requests that were taken before. Default: none. Requests must tell a time
	// that is signed; a Verifier of a scheme without one cannot be made with a Window.
	Window *Window
	// URL is the URL of a request as its sender has it, which some systems sign. Default: https,
	// with the request's host, path and query. See Origin.
	URL func(r *http.Request) string
	// MaxBody is the longest body that Handler reads, in bytes. Default 2 MiB.
	MaxBody int64
	// Refused is told why Handler refuses a request, to log or count it. Default: nobody is told.
	Refused func(r *http.Request, err error)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

const defaultMaxBody = 2 << 20

func (o Options) withDefaults() Options {
	if o.Tolerance <= 0 {
		o.Tolerance = DefaultTolerance
	}
	if o.URL == nil {
		o.URL = func(r *http.Request) string { return target("https://"+strings.ToLower(r.Host), r) }
	}
	if o.MaxBody <= 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Refused == nil {
		o.Refused = func(*http.Request, error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Origin is for Options.URL behind a proxy that changes scheme or host: the origin is the
// beginning of the URL that was registered, such as "https://consumer.example.com". Path and query
// are the request's own.
func Origin(origin string) func(r *http.Request) string {
	origin = strings.TrimSuffix(origin, "/")
	return func(r *http.Request) string { return target(origin, r) }
}

// target is origin with the request's path and query, exactly as they came.
func target(origin string, r *http.Request) string {
	uri := r.RequestURI
	if uri == "" { // a request that no server read
		uri = r.URL.RequestURI()
	}
	if !strings.HasPrefix(uri, "/") { // in absolute form (RFC 9112, section 3.2.2)
		if _, rest, ok := strings.Cut(uri, "://"); ok {
			if i := strings.IndexAny(rest, "/?"); i >= 0 {
				rest = rest[i:]
			} else {
				rest = "/"
			}
			uri = rest
		}
	}
	if !strings.HasPrefix(uri, "/") {
		uri = "/" + uri
	}
	return origin + uri
}

// Message is what is known of a request that is genuine.
type Message struct {
	// ID is the message's id, the same for each of its attempts. Empty if the signature does not
	// cover an id.
	ID string
	// Time is when the attempt was made. Zero if the signature does not cover a time.
	Time time.Time
	// KeyID names the key of a message signature.
	KeyID string
	// Body is what was verified.
	Body []byte
}

// Verifier says whether requests are genuine. It is safe for concurrent use.
type Verifier struct {
	opts  Options
	check func(r *http.Request, body []byte) (m Message, unique string, err error)
}

// Verify says whether a request with this body is genuine. It does not read r.Body. The error is
// one of those of this package; tell it to the log, not to the sender.
func (v *Verifier) Verify(r *http.Request, body []byte) (*Message, error) {
	m, unique, err := v.check(r, body)
	if err != nil {
		return nil, err
	}
	m.Body = body
	if v.opts.Window != nil {
		if err := v.opts.Window.take(unique, m.Time, v.opts.Now(), v.opts.Tolerance); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// Standard verifies Standard Webhooks: v1 by "whsec_...", v1a by the public "whpk_...". One of the
// secrets must have signed, so that they can be rotated.
func Standard(secrets []string, opts Options) (*Verifier, error) {
	return standard(secrets, opts, signature.ParseVerificationKey)
}

// StandardText is Standard for secrets that are plain texts, such as those of `jewelmusic`, whose
// deliveries have the headers of Standard Webhooks too. They bind id and time, which that system's
// own signature does not.
func StandardText(secrets []string, opts Options) (*Verifier, error) {
	return standard(secrets, opts, func(text string) (signature.Secret, error) {
		return signature.ParseSecret(text, signature.KindText)
	})
}

func standard(texts []string, opts Options, parse func(text string) (signature.Secret, error)) (*Verifier, error) {
	secrets, err := parseAll(texts, parse)
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	return &Verifier{opts, func(r *http.Request, body []byte) (Message, string, error) {
		if err := signature.VerifyStandardWebhooks(r.Header, body, secrets, opts.Now(), opts.Tolerance); err != nil {
			return Message{}, "", err
		}
		m := Message{ID: r.Header.Get(signature.HeaderID), Time: unix(r.Header.Get(signature.HeaderTimestamp))}
		return m, m.ID, nil
	}}, nil
}

// Scheme verifies as a system does that package signature knows by its name: "svix", "stripe",
// "github", "shopify", "slack", "square", "twilio", "jewelmusic", "jewelmusic-sdk".
func Scheme(name string, secrets []string, opts Options) (*Verifier, error) {
	s, ok := signature.LookupScheme(name)
	if !ok {
		return nil, fmt.Errorf("unknown scheme %q", name)
	}
	return Custom(s, secrets, opts)
}

// Custom verifies a scheme that is described by data; see signature.ParseScheme.
func Custom(s *signature.Scheme, texts []string, opts Options) (*Verifier, error) {
	secrets, err := parseAll(texts, s.ParseVerificationKey)
	if err != nil {
		return nil, err
	}
	if opts.Window != nil && !s.SignsTime() {
		return nil, errors.New("the scheme signs no time, so that nothing tells the next attempt from a replay: it can have no Window")
	}
	opts = opts.withDefaults()
	return &Verifier{opts, func(r *http.Request, body []byte) (Message, string, error) {
		m := signature.SchemeMessage{Method: r.Method, ContentType: r.Header.Get("Content-Type"), Body: body}
		// The hash of the body that a URL may hold is ours, not the sender's.
		var err error
		if m.URL, err = s.Target(opts.URL(r), m.ContentType, body); err != nil {
			return Message{}, "", fmt.Errorf("%w: %w", ErrNoMatch, err)
		}
		got, err := s.Verify(r.Header, m, secrets, opts.Now(), opts.Tolerance)
		if err != nil {
			return Message{}, "", err
		}
		var out Message
		if got.SignedTime {
			out.Time = got.Time
		}
		if got.SignedID {
			out.ID = got.ID
			return out, got.ID, nil
		}
		if opts.Window == nil {
			return out, "", nil
		}
		m.ID, m.Time = got.ID, got.Time
		digest := s.Digest(m)
		return out, string(digest[:]), nil
	}}, nil
}

func parseAll(texts []string, parse func(text string) (signature.Secret, error)) ([]signature.Secret, error) {
	if len(texts) == 0 {
		return nil, errors.New("at least one secret is needed")
	}
	secrets := make([]signature.Secret, len(texts))
	for i, text := range texts {
		var err error
		if secrets[i], err = parse(text); err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
	}
	return secrets, nil
}
