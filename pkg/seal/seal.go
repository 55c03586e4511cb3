// Package seal encrypts secrets at rest: authenticated encryption (AES-256-GCM) under a keyset
// that may hold several keys. The newest key seals, all of them open, so that keys can be changed
// without a moment in which something cannot be read. Losing the keyset loses what was sealed.
//
// A keyset is the base64 text of Tink's JSON keyset. It is a secret in clear: it comes from the
// environment or a mounted file (conf.Secret), never from the store that it protects.
package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// prefixSize is the length of what Tink puts before a ciphertext: a version byte and the key's id.
const prefixSize = 5

// ErrOpen says that a sealed value cannot be opened: it was sealed under a key that the keyset does
// not hold, for another owner, or was changed. It says no more, for what was in it is secret.
var ErrOpen = errors.New("the sealed value cannot be opened with this keyset")

// errKeyset says that a text is no keyset. The parser's own error may quote the text, so it is dropped.
var errKeyset = errors.New("the keyset must be the base64 text of a JSON keyset of AEAD keys, as made by Generate")

// Sealer seals and opens. It is safe for concurrent use.
type Sealer struct {
	primitive tink.AEAD
	primary   uint32
}

// Generate returns a new keyset with one key.
func Generate() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("generate a keyset: %w", err)
	}
	return write(handle)
}

// Parse reads a keyset.
func Parse[S ~string](text S) (*Sealer, error) {
	handle, err := read(string(text))
	if err != nil {
		return nil, err
	}
	primary, err := handle.Primary()
	if err != nil {
		return nil, errKeyset
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errKeyset
	}
	return &Sealer{primitive: primitive, primary: primary.KeyID()}, nil
}

// Seal encrypts the plaintext. It opens only together with the same associated data, which names
// what it belongs to, so that a sealed value moved elsewhere is useless.
func (s *Sealer) Seal(plain, associated []byte) ([]byte, error) {
	sealed, err := s.primitive.Encrypt(plain, associated)
	if err != nil {
		return nil, errors.New("the value cannot be sealed")
	}
	return sealed, nil
}

// Open decrypts what Seal returned, or fails with ErrOpen.
func (s *Sealer) Open(sealed, associated []byte) ([]byte, error) {
	plain, err := s.primitive.Decrypt(sealed, associated)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// Current reports whether a value was sealed under the newest key. One that was not should be
// opened and sealed again before its key is dropped.
func (s *Sealer) Current(sealed []byte) bool {
	return len(sealed) >= prefixSize && binary.BigEndian.Uint32(sealed[1:prefixSize]) == s.primary
}

// Rotate returns the keyset with a new key that seals from now on; the old ones still open. Every
// process must have the new keyset's keys before one of them seals with it: hand out the result of
// Add first, then that of Rotate, or restart all at once.
func Rotate[S ~string](text S) (string, error) {
	return change(string(text), func(m *keyset.Manager, _ *keyset.Handle) error {
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
}

// Add returns the keyset with a new key that opens but does not seal yet; Promote makes it seal.
// In between, every process learns the key, and none meets a value that it cannot open.
func Add[S ~string](text S) (string, error) {
	return change(string(text), func(m *keyset.Manager, _ *keyset.Handle) error {
		_, err := m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
}

// Promote returns the keyset with the key that was added last as the one that seals.
func Promote[S ~string](text S) (string, error) {
	return change(string(text), func(m *keyset.Manager, h *keyset.Handle) error {
		last, err := h.Entry(h.Len() - 1)
		if err != nil {
			return err
		}
		return m.SetPrimary(last.KeyID())
	})
}

// Prune returns the keyset with only the key that seals. What older keys sealed is lost then:
// seal it again first (see Current).
func Prune[S ~string](text S) (string, error) {
	return change(string(text), func(m *keyset.Manager, h *keyset.Handle) error {
		for i := range h.Len() {
			entry, err := h.Entry(i)
			if err != nil {
				return err
			}
			if entry.IsPrimary() {
				continue
			}
			if err := m.Delete(entry.KeyID()); err != nil {
				return err
			}
		}
		return nil
	})
}

// change reads a keyset, changes it and writes it.
func change(text string, do func(*keyset.Manager, *keyset.Handle) error) (string, error) {
	handle, err := read(text)
	if err != nil {
		return "", err
	}
	m := keyset.NewManagerFromHandle(handle)
	if err := do(m, handle); err != nil {
		return "", fmt.Errorf("change the keyset: %w", err)
	}
	changed, err := m.Handle()
	if err != nil {
		return "", fmt.Errorf("change the keyset: %w", err)
	}
	return write(changed)
}

// read parses a keyset and checks that it can seal.
func read(text string) (*keyset.Handle, error) {
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errKeyset
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		return nil, errKeyset
	}
	if _, err := aead.New(handle); err != nil {
		return nil, errKeyset
	}
	return handle, nil
}

// write returns a keyset as text.
func write(handle *keyset.Handle) (string, error) {
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return "", fmt.Errorf("write the keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(slices.Clip(buf.Bytes())), nil
}
