package httpsig_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

func TestContentDigest(t *testing.T) {
	t.Parallel()
	require.Equal(t, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", httpsig.ContentDigest(nil))
	const right = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:" // of rfcBody, RFC 9530
	require.Equal(t, right, httpsig.ContentDigest([]byte(rfcBody)))
	const wrong = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
	for name, test := range map[string]struct {
		values []string
		want   error
	}{
		"sha-256":                           {[]string{right}, nil},
		"sha-512":                           {[]string{rfcDigest}, nil},
		"both":                              {[]string{right, rfcDigest}, nil},
		"an unknown one beside it":          {[]string{right + ", future=:AAAA:"}, nil},
		"md5 beside it":                     {[]string{"md5=:AAAA:, " + right}, nil},
		"a wrong one":                       {[]string{wrong}, httpsig.ErrDigest},
		"a wrong one beside a right one":    {[]string{rfcDigest, wrong}, httpsig.ErrDigest},
		"a short one":                       {[]string{"sha-256=:AAAA:"}, httpsig.ErrDigest},
		"md5 alone":                         {[]string{"md5=:AAAA:"}, httpsig.ErrDigestMissing},
		"sha alone":                         {[]string{"sha=:AAAA:"}, httpsig.ErrDigestMissing},
		"nothing":                           {nil, httpsig.ErrDigestMissing},
		"an empty value":                    {[]string{""}, httpsig.ErrDigestMissing},
		"the form of the old Digest header": {[]string{"SHA-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="}, httpsig.ErrMalformed},
		"a string":                          {[]string{`sha-256="x"`}, httpsig.ErrMalformed},
		"a list":                            {[]string{"sha-256=(:AAAA:)"}, httpsig.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorIs(t, httpsig.CheckContentDigest(http.Header{"Content-Digest": test.values}, []byte(rfcBody)), test.want)
		})
	}
}
