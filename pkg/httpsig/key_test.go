package httpsig_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

func TestAPublicKeyIsReadInEveryForm(t *testing.T) {
	t.Parallel()
	for _, alg := range []httpsig.Algorithm{httpsig.Ed25519, httpsig.ECDSAP256, httpsig.ECDSAP384, httpsig.RSAPSS} {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, alg)
			der, err := x509.MarshalPKIXPublicKey(p.key.Public())
			require.NoError(t, err)
			text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
			spki, err := httpsig.EncodePublicKey(p.key.Public())
			require.NoError(t, err)
			for name, form := range map[string]string{
				"PEM": text, "PEM with spaces around": "\n " + text + "\n", "PEM with CRLF": strings.ReplaceAll(text, "\n", "\r\n"),
				"base64 of PEM":      base64.StdEncoding.EncodeToString([]byte(text)),
				"base64url of PEM":   base64.RawURLEncoding.EncodeToString([]byte(text)),
				"base64 of DER":      spki,
				"base64 with breaks": spki[:20] + "\n" + spki[20:],
			} {
				pub, got, err := httpsig.ParsePublicKey(form)
				require.NoError(t, err, name)
				require.Equal(t, alg, got, name)
				require.Equal(t, p.key.Public(), pub, name)
			}
		})
	}
}

func TestWhatIsNoPublicKeyIsRefused(t *testing.T) {
	t.Parallel()
	private, err := x509.MarshalPKCS8PrivateKey(newPair(t, httpsig.ECDSAP384).key)
	require.NoError(t, err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	require.NoError(t, err)
	other, err := httpsig.EncodePublicKey(p521.Public())
	require.NoError(t, err)
	for name, text := range map[string]string{
		"nothing":                     "",
		"no base64":                   "!!",
		"base64 of something":         "aGVsbG8=",
		"a private key":               string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"a private key under a lie":   string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: private})),
		"two keys":                    pemEd25519Public + "\n" + pemP256Public,
		"an unfinished PEM":           pemEd25519Public[:60],
		"a curve that nobody uses":    other,
		"more than any key needs":     strings.Repeat("A", 9000),
		"PEM with something after it": pemEd25519Public + "\nx",
	} {
		_, _, err := httpsig.ParsePublicKey(text)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "MI", name+": errors repeat no keys")
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	text, err := httpsig.EncodePublicKey(small.Public())
	require.NoError(t, err)
	_, _, err = httpsig.ParsePublicKey(text)
	require.ErrorIs(t, err, httpsig.ErrKey)
	_, err = httpsig.GenerateKey(httpsig.HMAC)
	require.ErrorIs(t, err, httpsig.ErrUnsupported)
}

// RFC 8037, appendix A.3, and RFC 7638, section 3.1, for keys of our own.
func TestThumbprints(t *testing.T) {
	t.Parallel()
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	require.NoError(t, err)
	id, err := httpsig.Thumbprint(ed25519.PublicKey(x))
	require.NoError(t, err)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", id)
	_, err = httpsig.Thumbprint([]byte("a secret has none, which would tell it"))
	require.ErrorIs(t, err, httpsig.ErrUnsupported)
}

func TestAJWKSetHoldsPublicKeysOnly(t *testing.T) {
	t.Parallel()
	ed, p384 := newPair(t, httpsig.Ed25519), newPair(t, httpsig.ECDSAP384)
	out, err := httpsig.JWKS(
		httpsig.PublishedKey{ID: ed.id, Algorithm: ed.alg, Key: ed.key.Public()},
		httpsig.PublishedKey{ID: p384.id, Algorithm: p384.alg, Key: p384.key.Public()},
	)
	require.NoError(t, err)
	var set struct{ Keys []map[string]string }
	require.NoError(t, json.Unmarshal(out, &set))
	require.Len(t, set.Keys, 2)
	require.Equal(t, map[string]string{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": ed.id, "x": set.Keys[0]["x"],
	}, set.Keys[0])
	require.Equal(t, "P-384", set.Keys[1]["crv"])
	require.Equal(t, "ES384", set.Keys[1]["alg"])
	require.NotContains(t, set.Keys[1], "d")

	empty, err := httpsig.JWKS()
	require.NoError(t, err)
	require.JSONEq(t, `{"keys":[]}`, string(empty))
	for name, k := range map[string]httpsig.PublishedKey{
		"a private key":              {ID: "k", Algorithm: ed.alg, Key: ed.key},
		"a secret":                   {ID: "k", Algorithm: httpsig.HMAC, Key: secretBytes(t)},
		"a key of another algorithm": {ID: "k", Algorithm: httpsig.ECDSAP256, Key: ed.key.Public()},
	} {
		_, err := httpsig.JWKS(k)
		require.Error(t, err, name)
	}
}
