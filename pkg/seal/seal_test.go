package seal_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/seal"
)

// generate returns a keyset and its sealer.
func generate(t *testing.T) (string, *seal.Sealer) {
	t.Helper()
	keyset, err := seal.Generate()
	require.NoError(t, err)
	s, err := seal.Parse(conf.Secret(keyset))
	require.NoError(t, err)
	return keyset, s
}

// What was sealed opens with the same associated data, and only with that.
func TestOpensOnlyWhatItSealedForTheSameOwner(t *testing.T) {
	t.Parallel()
	_, s := generate(t)
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		owner := rapid.SliceOf(rapid.Byte()).Draw(t, "owner")
		sealed, err := s.Seal(plain, owner)
		require.NoError(t, err)
		opened, err := s.Open(sealed, owner)
		require.NoError(t, err)
		require.Equal(t, string(plain), string(opened))
		require.True(t, s.Current(sealed))

		_, err = s.Open(sealed, append(owner, 'x'))
		require.ErrorIs(t, err, seal.ErrOpen)
		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "changed")] ^= 1
		_, err = s.Open(sealed, owner)
		require.ErrorIs(t, err, seal.ErrOpen)
	})
}

// Sealing the same twice gives different bytes, so that equal secrets do not show.
func TestSealsDifferentlyEachTime(t *testing.T) {
	t.Parallel()
	_, s := generate(t)
	a, err := s.Seal([]byte("same"), nil)
	require.NoError(t, err)
	b, err := s.Seal([]byte("same"), nil)
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	require.NotContains(t, string(a), "same")
}

// A keyset that is rotated opens the old, seals with the new, and says which is which.
func TestRotation(t *testing.T) {
	t.Parallel()
	old, before := generate(t)
	sealedBefore, err := before.Seal([]byte("secret"), []byte("wh_1"))
	require.NoError(t, err)

	rotated, err := seal.Rotate(old)
	require.NoError(t, err)
	after, err := seal.Parse(rotated)
	require.NoError(t, err)
	require.False(t, after.Current(sealedBefore))
	plain, err := after.Open(sealedBefore, []byte("wh_1"))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))

	sealedAfter, err := after.Seal(plain, []byte("wh_1"))
	require.NoError(t, err)
	require.True(t, after.Current(sealedAfter))
	_, err = before.Open(sealedAfter, []byte("wh_1"))
	require.ErrorIs(t, err, seal.ErrOpen, "the old keyset does not know the new key")

	pruned, err := seal.Prune(rotated)
	require.NoError(t, err)
	last, err := seal.Parse(pruned)
	require.NoError(t, err)
	_, err = last.Open(sealedAfter, []byte("wh_1"))
	require.NoError(t, err)
	_, err = last.Open(sealedBefore, []byte("wh_1"))
	require.ErrorIs(t, err, seal.ErrOpen)
}

// A rolling change has no moment in which one process seals what another cannot open: the key is
// added everywhere first and promoted then.
func TestRollingRotation(t *testing.T) {
	t.Parallel()
	old, a := generate(t)
	added, err := seal.Add(old)
	require.NoError(t, err)
	b, err := seal.Parse(added)
	require.NoError(t, err)
	sealed, err := b.Seal([]byte("x"), nil)
	require.NoError(t, err)
	_, err = a.Open(sealed, nil)
	require.NoError(t, err, "a process with the new key still seals with the old one")

	promoted, err := seal.Promote(added)
	require.NoError(t, err)
	c, err := seal.Parse(promoted)
	require.NoError(t, err)
	sealed, err = c.Seal([]byte("x"), nil)
	require.NoError(t, err)
	require.False(t, b.Current(sealed))
	_, err = b.Open(sealed, nil)
	require.NoError(t, err, "every process knows the key by the time it seals")
}

// What is no keyset is refused without being repeated.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good, _ := generate(t)
	tests := map[string]string{
		"nothing":                   "",
		"no base64":                 "sesame-open!",
		"no JSON":                   base64.StdEncoding.EncodeToString([]byte("sesame-open")),
		"JSON without keys":         base64.StdEncoding.EncodeToString([]byte(`{"primaryKeyId":1,"key":[]}`)),
		"half of a keyset":          good[:len(good)/2],
		"a key that is not primary": base64.StdEncoding.EncodeToString([]byte(`{"primaryKeyId":1,"key":[{"keyId":2}]}`)),
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := seal.Parse(text)
			require.ErrorContains(t, err, "must be the base64 text")
			require.NotContains(t, err.Error(), "sesame")
			_, err = seal.Rotate(text)
			require.Error(t, err)
		})
	}
	_, err := seal.Parse("  " + good + "\n")
	require.NoError(t, err, "white space around a keyset is no part of it")
}

// FuzzParse feeds texts to the parser: it never panics, and what it accepts seals and opens.
func FuzzParse(f *testing.F) {
	f.Add("")
	f.Add(base64.StdEncoding.EncodeToString([]byte(`{"primaryKeyId":1,"key":[{"keyId":1,"status":"ENABLED"}]}`)))
	keyset, err := seal.Generate()
	require.NoError(f, err)
	f.Add(keyset)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := seal.Parse(text)
		if err != nil {
			if len(text) > 40 {
				require.NotContains(t, err.Error(), strings.TrimSpace(text))
			}
			return
		}
		sealed, err := s.Seal([]byte("x"), nil)
		require.NoError(t, err)
		opened, err := s.Open(sealed, nil)
		require.NoError(t, err)
		require.Equal(t, "x", string(opened))
	})
}

// FuzzOpen feeds bytes to Open: it never panics and opens none of them.
func FuzzOpen(f *testing.F) {
	keyset, err := seal.Generate()
	require.NoError(f, err)
	s, err := seal.Parse(keyset)
	require.NoError(f, err)
	f.Add([]byte{}, []byte{})
	f.Add([]byte{1, 2, 3, 4, 5, 6}, []byte("wh_1"))
	f.Fuzz(func(t *testing.T, sealed, owner []byte) {
		_, err := s.Open(sealed, owner)
		require.ErrorIs(t, err, seal.ErrOpen)
		s.Current(sealed)
	})
}
