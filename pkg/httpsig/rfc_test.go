package httpsig_test

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

func TestTheKnownAnswersOfRFC9421(t *testing.T) {
	t.Parallel()
	for name, v := range vectors() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, body := v.message()
			base, err := httpsig.Base(m, v.label)
			require.NoError(t, err)
			require.Equal(t, v.base, base)
			verifier := &httpsig.Verifier{Keys: rfcKeys(t), Now: at(rfcCreated + 10)}
			verified, err := verifier.Verify(m, body)
			require.NoError(t, err)
			require.Equal(t, v.label, verified.Label)
			require.EqualValues(t, rfcCreated, verified.Created.Unix())
		})
	}
}

func TestTheDeterministicAnswersAreMadeToTheByte(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]struct {
		alg httpsig.Algorithm
		key any
	}{
		"B.2.5 HMAC":    {httpsig.HMAC, secretBytes(t)},
		"B.2.6 ed25519": {httpsig.Ed25519, ed25519Private(t)},
	} {
		v := vectors()[name]
		s, err := httpsig.NewSigner(key.alg, "k", key.key)
		require.NoError(t, err)
		sig, err := s.SignBase(v.base)
		require.NoError(t, err)
		require.Equal(t, v.signature, base64.StdEncoding.EncodeToString(sig), name)
	}
}

func TestEveryKeyOfTheRFCSignsWhatItsPublicKeyVerifies(t *testing.T) {
	t.Parallel()
	rsaKey, err := x509.ParsePKCS1PrivateKey(block(t, pemRSAPrivate))
	require.NoError(t, err)
	p384, err := httpsig.GenerateKey(httpsig.ECDSAP384)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		alg  httpsig.Algorithm
		key  crypto.Signer
		size int
	}{
		"B.1.1 RSA":     {httpsig.RSAPSS, rsaKey, 256},
		"B.1.2 RSA-PSS": {httpsig.RSAPSS, rsaPSSPrivate(t), 256},
		"B.1.3 ECDSA":   {httpsig.ECDSAP256, p256Private(t), 64},
		"B.1.4 ed25519": {httpsig.Ed25519, ed25519Private(t), 64},
		"a P-384 key":   {httpsig.ECDSAP384, p384, 96},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := httpsig.NewSigner(test.alg, "the key", test.key)
			require.NoError(t, err)
			sig, err := s.SignBase("base")
			require.NoError(t, err)
			require.Len(t, sig, test.size)
			m := rfcRequest()
			require.NoError(t, httpsig.Sign(m, &httpsig.Params{Components: []string{"@method", "content-digest"}, Created: time.Unix(rfcCreated, 0)}, s))
			v := &httpsig.Verifier{Now: at(rfcCreated), Keys: func(string) (httpsig.Key, bool) {
				return httpsig.Key{Algorithm: test.alg, Key: test.key.Public()}, true
			}}
			got, err := v.Verify(m, []byte(rfcBody))
			require.NoError(t, err)
			require.Equal(t, test.alg, got.Algorithm)
		})
	}
}

// The value was worked out with an independent implementation (check 3.1).
func TestTheWorkedValueOfAWebhook(t *testing.T) {
	t.Parallel()
	const body = `{"id":"evt_1234567890","type":"release.live","created":1693526400,"data":{"release_id":"rel_abc123def456",` +
		`"title":"My Album","artist":"Artist Name","status":"live","platforms":[{"name":"spotify","status":"live",` +
		`"url":"https://open.spotify.com/album/..."},{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
		`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}}`
	created := time.Unix(1674087231, 0)
	key := ed25519Private(t)
	thumbprint, err := httpsig.Thumbprint(key.Public())
	require.NoError(t, err)
	require.Equal(t, "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U", thumbprint, "as the web-bot-auth drafts have it for this key")
	s, err := httpsig.NewSigner(httpsig.Ed25519, "test-key-ed25519", key)
	require.NoError(t, err)
	m := &httpsig.Message{
		Method: http.MethodPost, URL: "https://consumer.example.com/hooks/in?tenant=7&x=a%20b",
		Header: http.Header{
			"Content-Type": {"application/json"}, "Content-Digest": {httpsig.ContentDigest([]byte(body))},
			"Webhook-Id": {"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"}, "Webhook-Timestamp": {"1674087231"},
		},
	}
	require.NoError(t, httpsig.Sign(m, &httpsig.Params{
		Components: []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id", "webhook-timestamp"},
		Created:    created, Expires: created.Add(300 * time.Second), Tag: "webhook",
	}, s))
	require.Equal(t, `sig1=("@method" "@target-uri" "content-type" "content-digest" "webhook-id" "webhook-timestamp")`+
		`;created=1674087231;expires=1674087531;keyid="test-key-ed25519";alg="ed25519";tag="webhook"`, m.Header.Get("Signature-Input"))
	require.Equal(t, "sig1=:HUtHzEahdRuoH4JMEixqWgbQhFXGVCa+H1mbVWKdxmwSVyYSMmABtN7pTmeGB6U8XVq4cDZ4ekPDV9/vHDkqCg==:", m.Header.Get("Signature"))
}
