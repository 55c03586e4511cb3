package verify_test

import (
	"crypto"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/verify"
)

func stamp(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

type keyPair struct {
	signer *httpsig.Signer
	public string // base64 of the SPKI
	key    crypto.PublicKey
}

func newKey(t *testing.T, alg httpsig.Algorithm) keyPair {
	t.Helper()
	key, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	id, err := httpsig.Thumbprint(key.Public())
	require.NoError(t, err)
	signer, err := httpsig.NewSigner(alg, id, key)
	require.NoError(t, err)
	text, err := httpsig.EncodePublicKey(key.Public())
	require.NoError(t, err)
	return keyPair{signer, text, key.Public()}
}

// covered is what deliveries cover.
func covered(c verify.Coverage) []string {
	if c == verify.AuthorityParts {
		return []string{"@method", "@authority", "@path", "@query", "content-digest", "webhook-id", "webhook-timestamp"}
	}
	return []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id", "webhook-timestamp"}
}

func signMessage(t *testing.T, r *http.Request, body string, p httpsig.Params, signers ...*httpsig.Signer) {
	t.Helper()
	r.Header.Set("Content-Digest", httpsig.ContentDigest([]byte(body)))
	m := &httpsig.Message{Method: r.Method, URL: "https://" + r.Host + r.RequestURI, Header: r.Header}
	require.NoError(t, httpsig.Sign(m, &p, signers...))
}

func params(c verify.Coverage, at time.Time) httpsig.Params {
	return httpsig.Params{Components: covered(c), Created: at, Expires: at.Add(5 * time.Minute), Tag: "webhook"}
}

func messageForm(t *testing.T, c verify.Coverage) form {
	t.Helper()
	return messageFormOf(t, c, newKey(t, httpsig.Ed25519))
}

// rotatingForm signs with a new key first, which the receiver does not know yet.
func rotatingForm(t *testing.T) form {
	t.Helper()
	return messageFormOf(t, verify.TargetURI, newKey(t, httpsig.ECDSAP384), newKey(t, httpsig.ECDSAP256))
}

// messageFormOf signs with all keys; the receiver knows the last.
func messageFormOf(t *testing.T, c verify.Coverage, keys ...keyPair) form {
	t.Helper()
	signers := make([]*httpsig.Signer, len(keys))
	for i, k := range keys {
		signers[i] = k.signer
	}
	other := newKey(t, httpsig.Ed25519)
	with := func(text string) func(o verify.Options) (*verify.Verifier, error) {
		return func(o verify.Options) (*verify.Verifier, error) {
			known, err := verify.PublicKeys(text)
			require.NoError(t, err)
			return verify.MessageSignatures(known, c, o)
		}
	}
	return form{
		sign: func(t *testing.T, r *http.Request, body string, at time.Time) {
			t.Helper()
			r.Header.Set("webhook-id", "evt_1")
			r.Header.Set("webhook-timestamp", stamp(at))
			signMessage(t, r, body, params(c, at), signers...)
		},
		verify: with(keys[len(keys)-1].public), wrong: with(other.public),
		body: true, url: true, id: true, time: true,
	}
}

func TestMessageSignaturesMustCoverAndState(t *testing.T) {
	t.Parallel()
	key := newKey(t, httpsig.Ed25519)
	known, err := verify.PublicKeys(key.public)
	require.NoError(t, err)
	tests := map[string]struct {
		change func(p *httpsig.Params)
		body   string
		want   error
	}{
		"all that is required":            {func(*httpsig.Params) {}, "{}", nil},
		"no digest, and no body":          {func(p *httpsig.Params) { p.Components = []string{"@method", "@target-uri"} }, "", nil},
		"no digest":                       {func(p *httpsig.Params) { p.Components = []string{"@method", "@target-uri"} }, "{}", verify.ErrNoMatch},
		"no URL":                          {func(p *httpsig.Params) { p.Components = []string{"@method", "content-digest"} }, "{}", verify.ErrNoMatch},
		"another tag":                     {func(p *httpsig.Params) { p.Tag = "web-bot-auth" }, "{}", verify.ErrNoMatch},
		"no expiry":                       {func(p *httpsig.Params) { p.Expires = time.Time{} }, "{}", verify.ErrNoMatch},
		"no creation":                     {func(p *httpsig.Params) { p.Created = time.Time{} }, "{}", verify.ErrNoMatch},
		"an expiry that passed":           {func(p *httpsig.Params) { p.Expires = clock() }, "{}", verify.ErrTimestamp},
		"a creation long ago":             {func(p *httpsig.Params) { p.Created = sent.Add(-time.Hour) }, "{}", verify.ErrTimestamp},
		"a creation a minute from now on": {func(p *httpsig.Params) { p.Created = sent.Add(2 * time.Minute) }, "{}", verify.ErrTimestamp},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := verify.MessageSignatures(known, verify.TargetURI, verify.Options{Now: clock})
			require.NoError(t, err)
			r := request(t, inbox, tt.body)
			r.Header.Set("Webhook-Id", "evt_1")
			r.Header.Set("Webhook-Timestamp", stamp(sent))
			p := params(verify.TargetURI, sent)
			tt.change(&p)
			signMessage(t, r, tt.body, p, key.signer)
			m, err := v.Verify(r, []byte(tt.body))
			require.ErrorIs(t, err, tt.want)
			if err == nil {
				require.Equal(t, key.signer.KeyID(), m.KeyID)
				require.Equal(t, len(p.Components) > 2, m.ID == "evt_1", "an id that is not covered is not believed")
			}
		})
	}
}

func TestAGETIsBoundByItsURL(t *testing.T) {
	t.Parallel()
	key := newKey(t, httpsig.Ed25519)
	known, err := verify.PublicKeys(key.public)
	require.NoError(t, err)
	v, err := verify.MessageSignatures(known, verify.TargetURI, verify.Options{Now: clock})
	require.NoError(t, err)
	r := request(t, inbox+"&sentAt=2020-03-18T17%3A41%3A56.555%2B11%3A00", "")
	r.Method = http.MethodGet
	p := params(verify.TargetURI, sent)
	p.Components = []string{"@method", "@target-uri"}
	signMessage(t, r, "", p, key.signer)
	_, err = v.Verify(r, nil)
	require.NoError(t, err)
	for name, change := range map[string]func(r *http.Request){
		"another method":    func(r *http.Request) { r.Method = http.MethodPost },
		"another parameter": func(r *http.Request) { r.RequestURI += "x" },
		"a body":            func(r *http.Request) { r.Header.Set("Content-Digest", httpsig.ContentDigest([]byte("x"))) },
	} {
		changed := r.Clone(t.Context())
		change(changed)
		_, err = v.Verify(changed, []byte(map[bool]string{true: "x"}[name == "a body"]))
		require.ErrorIs(t, err, verify.ErrNoMatch, name)
	}
}

func TestKeysOfASet(t *testing.T) {
	t.Parallel()
	all := []httpsig.Algorithm{httpsig.Ed25519, httpsig.ECDSAP256, httpsig.ECDSAP384, httpsig.RSAPSS}
	var published []httpsig.PublishedKey
	ids := make([]string, len(all))
	for i, alg := range all {
		k := newKey(t, alg)
		ids[i] = k.signer.KeyID()
		published = append(published, httpsig.PublishedKey{ID: ids[i], Algorithm: alg, Key: k.key})
	}
	document, err := httpsig.JWKS(published...)
	require.NoError(t, err)
	with := strings.Replace(string(document), `"keys":[`, `"keys":[{"kty":"new"},{"kty":"oct","k":"AAAA","kid":"x"},`, 1)
	keys, err := verify.JWKS([]byte(with))
	require.NoError(t, err)
	for i, id := range ids {
		key, ok := keys(id)
		require.True(t, ok)
		require.Equal(t, all[i], key.Algorithm)
	}
	for _, id := range []string{"", "x"} {
		_, ok := keys(id)
		require.False(t, ok, "a symmetric key is none, and no key has no name")
	}
	for _, bad := range []string{"", "[]", `{"keys":[]}`, `{"keys":[{"kty":"new"}]}`} {
		_, err := verify.JWKS([]byte(bad))
		require.Error(t, err, bad)
	}
	_, err = verify.PublicKeys("nonsense")
	require.Error(t, err)
	_, err = verify.PublicKeys()
	require.Error(t, err)
}
