package cli

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/pkg/verify"
)

// errUnchecked says that there is no secret to check with.
var errUnchecked = errors.New("no --secret was given")

// checker checks signatures in the form of a profile.
type checker struct {
	build func(secrets []string) (*verify.Verifier, error)

	mu       sync.Mutex
	secrets  []string
	verifier *verify.Verifier // nil without secrets
}

// checkable are the profiles whose signatures can be checked with the webhook's secret alone.
func checkable() []string {
	names := []string{"standard", "audata", "cloudevents", "ingedata", "jewelmusic", "jewelmusic-sdk", "labelst"}
	for _, s := range signature.Schemes() {
		names = append(names, s.Name)
	}
	slices.Sort(names[1:])
	return names
}

// newChecker checks with the secrets, and those that are added. From is the origin of the URL
// that requests are sent to, once it is known.
func newChecker(name string, texts []string, now func() time.Time, from func() string) (*checker, error) {
	if !slices.Contains(checkable(), name) {
		return nil, usagef("--profile must be one of %s, not %q", strings.Join(checkable(), ", "), name)
	}
	c := &checker{}
	opts := verify.Options{Now: now, URL: func(r *http.Request) string { return from() + r.RequestURI }}
	c.build = func(secrets []string) (*verify.Verifier, error) {
		switch name {
		case "standard", "audata", "cloudevents", "ingedata":
			return verify.Standard(secrets, opts)
		case "labelst":
			return verify.StandardText(secrets, opts)
		}
		return verify.Scheme(name, secrets, opts)
	}
	for _, text := range texts {
		value, err := secret("--secret", text)
		if err != nil {
			return nil, err
		}
		if err := c.add(value); err != nil {
			return nil, usagef("--secret: %w", err)
		}
	}
	return c, nil
}

// add makes a secret one of those that may have signed.
func (c *checker) add(text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	secrets := append(slices.Clone(c.secrets), text)
	v, err := c.build(secrets)
	if err != nil {
		return err
	}
	c.secrets, c.verifier = secrets, v
	return nil
}

// verify says what is wrong with a request's signature.
func (c *checker) verify(r *http.Request, body []byte) error {
	c.mu.Lock()
	v := c.verifier
	c.mu.Unlock()
	if v == nil {
		return errUnchecked
	}
	_, err := v.Verify(r, body)
	return err
}
