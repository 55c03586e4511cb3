package httpsig_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

// BenchmarkSign signs a delivery with all that our profile covers.
func BenchmarkSign(b *testing.B) {
	for _, alg := range []httpsig.Algorithm{httpsig.Ed25519, httpsig.ECDSAP384} {
		b.Run(string(alg), func(b *testing.B) {
			p := newPair(b, alg)
			m := delivery(b, p.signer)
			prms := params(covered()...)
			b.ReportAllocs()
			for b.Loop() {
				if err := httpsig.Sign(m, prms, p.signer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify verifies one.
func BenchmarkVerify(b *testing.B) {
	for _, alg := range []httpsig.Algorithm{httpsig.Ed25519, httpsig.ECDSAP384} {
		b.Run(string(alg), func(b *testing.B) {
			p := newPair(b, alg)
			m := delivery(b, p.signer)
			v := knows(signedAt, p)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(m, []byte(deliveryBody)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBase signs with a key that costs nothing, so that the rest shows.
func BenchmarkBase(b *testing.B) {
	s, err := httpsig.NewSigner(httpsig.HMAC, "k", make([]byte, 32))
	require.NoError(b, err)
	m := delivery(b, s)
	prms := params(covered()...)
	b.ReportAllocs()
	for b.Loop() {
		if err := httpsig.Sign(m, prms, s); err != nil {
			b.Fatal(err)
		}
	}
	require.Equal(b, http.MethodPost, m.Method)
}
