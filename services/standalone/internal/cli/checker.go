package cli

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/signature"
)

// errUnchecked says that there is no secret to check with.
var errUnchecked = errors.New("no --secret was given")

const jewelMusicHeader = "X-JewelMusic-Signature"

// checker checks signatures in the form of a profile.
type checker struct {
	profile string
	parse   func(text string) (signature.Secret, error)

	mu      sync.Mutex
	secrets []signature.Secret
}

func newChecker(name string, texts []string) (*checker, error) {
	c := &checker{profile: name}
	switch name {
	case "standard":
		c.parse = signature.ParseVerificationKey
	case "jewelmusic":
		c.parse = func(text string) (signature.Secret, error) { return signature.ParseSecret(text, signature.KindText) }
	default:
		return nil, usagef("--profile must be standard or jewelmusic, not %q", name)
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
	s, err := c.parse(text)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, s)
	return nil
}

// verify says what is wrong with a request's signature.
func (c *checker) verify(h http.Header, body []byte, now time.Time) error {
	c.mu.Lock()
	secrets := c.secrets
	c.mu.Unlock()
	if len(secrets) == 0 {
		return errUnchecked
	}
	if c.profile == "jewelmusic" {
		return signature.VerifyHex(strings.Join(h.Values(jewelMusicHeader), ", "), profile.JewelMusicSignaturePrefix, body, secrets)
	}
	return signature.VerifyStandardWebhooks(h, body, secrets, now, signature.DefaultTolerance)
}
