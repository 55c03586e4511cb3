package httpsig_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

// FuzzVerify holds the verifier to one promise: what strangers write in the two headers verifies
// nothing that was not signed, and breaks nothing.
func FuzzVerify(f *testing.F) {
	for _, v := range vectors() {
		m, _ := v.message()
		f.Add(m.Header.Get("Signature-Input"), m.Header.Get("Signature"))
	}
	f.Add(`sig1=("date";bs "x";key="a" "cache-status";sf "@query-param";name="Pet");created=1;keyid="test-shared-secret"`, "sig1=:AAAA:")
	f.Add(`a=("@method";req);created=1;keyid="k", a=(), b=1`, "a=1, b=:AA==:")
	keys := rfcKeys(f)
	known := vectors()
	f.Fuzz(func(t *testing.T, input, signature string) {
		m := rfcRequest()
		m.Header["Signature-Input"], m.Header["Signature"] = []string{input}, []string{signature}
		v := &httpsig.Verifier{Keys: keys, Now: at(rfcCreated)}
		verified, err := v.Verify(m, []byte(rfcBody))
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		base, err := httpsig.Base(m, verified.Label)
		require.NoError(t, err)
		for _, k := range known {
			if k.base == base {
				return
			}
		}
		t.Fatalf("nobody signed %q", base)
	})
}

// FuzzContentDigest holds the check to its promise: what passes has the body's digest in it.
func FuzzContentDigest(f *testing.F) {
	f.Add("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:", []byte(rfcBody))
	f.Add(rfcDigest+", md5=:AAAA:", []byte(rfcBody))
	f.Add("sha=:AA==:;a=1, b=(1 2)", []byte{})
	f.Fuzz(func(t *testing.T, value string, body []byte) {
		h := http.Header{"Content-Digest": {value}}
		if httpsig.CheckContentDigest(h, body) != nil {
			return
		}
		other := append([]byte("x"), body...)
		require.ErrorIs(t, httpsig.CheckContentDigest(h, other), httpsig.ErrDigest)
	})
}

// FuzzSignedIsVerified: whatever components can be signed verify again, and only with their values.
func FuzzSignedIsVerified(f *testing.F) {
	f.Add("@method,@target-uri,x-test", "https://example.com/a?b=c", "value", "nonce")
	f.Add(`x-test;bs,@query-param;name="b",@authority`, "http://EXAMPLE.com:80?b=c+d%2", "  ü \"", "")
	f.Add(`x-test;sf,x-test;key="a",@request-target`, "https://h", "a=1,  b", `"\`)
	signer, err := httpsig.NewSigner(httpsig.HMAC, "test-shared-secret", secretBytes(f))
	require.NoError(f, err)
	keys := rfcKeys(f)
	f.Fuzz(func(t *testing.T, components, url, value, nonce string) {
		m := &httpsig.Message{Method: http.MethodPost, URL: url, Header: http.Header{"X-Test": {value}}}
		p := params(strings.Split(components, ",")...)
		p.Nonce = nonce
		if httpsig.Sign(m, p, signer) != nil {
			return
		}
		v := &httpsig.Verifier{Keys: keys, Now: at(signedAt)}
		if strings.Contains(components, "content-digest") {
			return
		}
		got, err := v.Verify(m, nil)
		require.NoError(t, err)
		require.Equal(t, nonce, got.Nonce)
		require.Len(t, got.Components, len(p.Components))
	})
}

// FuzzParsePublicKey: what is read is written in one form that is read again as the same key.
func FuzzParsePublicKey(f *testing.F) {
	f.Add(pemEd25519Public)
	f.Add(pemP256Public)
	f.Add(pemRSAPSSPublic)
	f.Add("MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=")
	f.Fuzz(func(t *testing.T, text string) {
		pub, alg, err := httpsig.ParsePublicKey(text)
		if err != nil {
			return
		}
		one, err := httpsig.EncodePublicKey(pub)
		require.NoError(t, err)
		again, algAgain, err := httpsig.ParsePublicKey(one)
		require.NoError(t, err)
		require.Equal(t, pub, again)
		require.Equal(t, alg, algAgain)
	})
}
