package verify_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/verify"
)

// FuzzJWKS looks for documents that give keys which cannot be used.
func FuzzJWKS(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","kid":"a","x":"JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"}]}`), "a")
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-521","kid":"a"},{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"a"},{"kty":"oct","k":"AA","kid":"a"},null,1]}`), "a")
	f.Fuzz(func(t *testing.T, document []byte, id string) {
		keys, err := verify.JWKS(document)
		if err != nil {
			return
		}
		if key, ok := keys(id); ok {
			require.NotEmpty(t, id)
			alg, err := httpsig.AlgorithmOf(key.Key)
			require.NoError(t, err)
			require.Equal(t, alg, key.Algorithm)
		}
	})
}

// FuzzTheURLOfARequest looks for request targets that lead out of the origin.
func FuzzTheURLOfARequest(f *testing.F) {
	for _, uri := range []string{"/a?b", "http://x/y?z", "http://x", "http://x?y", "*", "", "//evil/", "x:443", "?a"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/p", http.NoBody)
		require.NoError(t, err)
		r.RequestURI = uri
		require.True(t, strings.HasPrefix(verify.Origin("https://consumer.example.com")(r), "https://consumer.example.com/"))
	})
}
