package httpsig_test

import (
	"crypto"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
)

const (
	deliveryBody = `{"webhookType":"customer.updated"}`
	deliveryURL  = "https://consumer.example.com/hooks/in?tenant=7&x=a%20b"
	signedAt     = 1_700_000_000
)

// covered is what our profile covers.
func covered() []string {
	return []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id", "webhook-timestamp"}
}

// pair is a key with its thumbprint.
type pair struct {
	id     string
	alg    httpsig.Algorithm
	key    crypto.Signer
	signer *httpsig.Signer
}

func newPair(t testing.TB, alg httpsig.Algorithm) pair {
	t.Helper()
	key, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	id, err := httpsig.Thumbprint(key.Public())
	require.NoError(t, err)
	s, err := httpsig.NewSigner(alg, id, key)
	require.NoError(t, err)
	return pair{id, alg, key, s}
}

// knows is a verifier of our profile that knows the keys.
func knows(now int64, pairs ...pair) *httpsig.Verifier {
	return &httpsig.Verifier{
		Components: []string{"@method", "@target-uri"}, BodyComponents: []string{"content-type", "content-digest"},
		Tag: "webhook", RequireExpires: true, Now: at(now),
		Keys: func(id string) (httpsig.Key, bool) {
			for _, p := range pairs {
				if p.id == id {
					return httpsig.Key{Algorithm: p.alg, Key: p.key.Public()}, true
				}
			}
			return httpsig.Key{}, false
		},
	}
}

// delivery is a message as our dispatcher sends it.
func delivery(t testing.TB, signers ...*httpsig.Signer) *httpsig.Message {
	t.Helper()
	m := &httpsig.Message{Method: http.MethodPost, URL: deliveryURL, Header: http.Header{
		"Content-Type": {"application/json"}, "Content-Digest": {httpsig.ContentDigest([]byte(deliveryBody))},
		"Webhook-Id": {"fb2ed25e-11b1-49ce-a703-75f0c2d58c09"}, "Webhook-Timestamp": {"1700000000"},
	}}
	require.NoError(t, httpsig.Sign(m, params(covered()...), signers...))
	return m
}

func params(components ...string) *httpsig.Params {
	return &httpsig.Params{
		Components: components, Created: time.Unix(signedAt, 0), Expires: time.Unix(signedAt+300, 0), Tag: "webhook",
	}
}

func TestOneTrustedSignatureIsEnough(t *testing.T) {
	t.Parallel()
	older, newer, stranger := newPair(t, httpsig.Ed25519), newPair(t, httpsig.ECDSAP384), newPair(t, httpsig.ECDSAP256)
	m := delivery(t, newer.signer, older.signer)
	require.Equal(t, 2, strings.Count(m.Header.Get("Signature-Input"), "sig"))
	for name, test := range map[string]struct {
		known []pair
		label string
	}{
		"the first of those who are known counts": {[]pair{newer, older}, "sig1"},
		"who knows only the old key takes that":   {[]pair{older, stranger}, "sig2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := knows(signedAt+1, test.known...).Verify(m, []byte(deliveryBody))
			require.NoError(t, err)
			require.Equal(t, test.label, got.Label)
			require.Equal(t, covered(), got.Components)
			require.Equal(t, "webhook", got.Tag)
			require.EqualValues(t, signedAt+300, got.Expires.Unix())
		})
	}
	_, err := knows(signedAt+1, stranger).Verify(m, []byte(deliveryBody))
	require.ErrorIs(t, err, httpsig.ErrUnknownKey)
}

func TestWhateverIsChangedIsSeen(t *testing.T) {
	t.Parallel()
	p := newPair(t, httpsig.ECDSAP384)
	input := func(m *httpsig.Message, from, to string) {
		changed := strings.Replace(m.Header.Get("Signature-Input"), from, to, 1)
		m.Header.Set("Signature-Input", changed)
	}
	tests := map[string]struct {
		change func(m *httpsig.Message)
		body   string
		want   error
	}{
		"a tampered body":                 {func(*httpsig.Message) {}, deliveryBody + " ", httpsig.ErrDigest},
		"a missing body":                  {func(*httpsig.Message) {}, "", httpsig.ErrDigest},
		"a tampered body and its digest":  {func(m *httpsig.Message) { m.Header.Set("Content-Digest", httpsig.ContentDigest([]byte("x"))) }, "x", httpsig.ErrSignature},
		"a tampered header":               {func(m *httpsig.Message) { m.Header.Set("Webhook-Id", "x") }, deliveryBody, httpsig.ErrSignature},
		"a header that came twice":        {func(m *httpsig.Message) { m.Header.Add("Webhook-Id", "x") }, deliveryBody, httpsig.ErrSignature},
		"a removed header":                {func(m *httpsig.Message) { m.Header.Del("Webhook-Id") }, deliveryBody, httpsig.ErrMessage},
		"another method":                  {func(m *httpsig.Message) { m.Method = http.MethodPut }, deliveryBody, httpsig.ErrSignature},
		"another host":                    {func(m *httpsig.Message) { m.URL = strings.Replace(m.URL, "consumer", "evil", 1) }, deliveryBody, httpsig.ErrSignature},
		"another query":                   {func(m *httpsig.Message) { m.URL += "&y" }, deliveryBody, httpsig.ErrSignature},
		"another creation":                {func(m *httpsig.Message) { input(m, "created=1700000000", "created=1700000001") }, deliveryBody, httpsig.ErrSignature},
		"a later expiry":                  {func(m *httpsig.Message) { input(m, "expires=1700000300", "expires=1700000999") }, deliveryBody, httpsig.ErrSignature},
		"another tag":                     {func(m *httpsig.Message) { input(m, `tag="webhook"`, `tag="other"`) }, deliveryBody, httpsig.ErrPolicy},
		"another algorithm":               {func(m *httpsig.Message) { input(m, "ecdsa-p384-sha384", "hmac-sha256") }, deliveryBody, httpsig.ErrAlgorithm},
		"a component less":                {func(m *httpsig.Message) { input(m, ` "webhook-id"`, "") }, deliveryBody, httpsig.ErrSignature},
		"a required component less":       {func(m *httpsig.Message) { input(m, ` "@target-uri"`, "") }, deliveryBody, httpsig.ErrPolicy},
		"no digest covered":               {func(m *httpsig.Message) { input(m, ` "content-digest"`, "") }, deliveryBody, httpsig.ErrPolicy},
		"a component twice":               {func(m *httpsig.Message) { input(m, `"webhook-id"`, `"webhook-id" "webhook-id"`) }, deliveryBody, httpsig.ErrMalformed},
		"other components in disguise":    {func(m *httpsig.Message) { input(m, `"content-type"`, `"Content-Type"`) }, deliveryBody, httpsig.ErrMalformed},
		"an unknown derived component":    {func(m *httpsig.Message) { input(m, `"@method"`, `"@signature-params"`) }, deliveryBody, httpsig.ErrUnsupported},
		"an unknown parameter":            {func(m *httpsig.Message) { input(m, `"webhook-id"`, `"webhook-id";tr`) }, deliveryBody, httpsig.ErrUnsupported},
		"no creation":                     {func(m *httpsig.Message) { input(m, ";created=1700000000", "") }, deliveryBody, httpsig.ErrPolicy},
		"no expiry":                       {func(m *httpsig.Message) { input(m, ";expires=1700000300", "") }, deliveryBody, httpsig.ErrPolicy},
		"no keyid":                        {func(m *httpsig.Message) { input(m, `;keyid="`+p.id+`"`, "") }, deliveryBody, httpsig.ErrPolicy},
		"a creation that is no integer":   {func(m *httpsig.Message) { input(m, "created=1700000000", `created="1700000000"`) }, deliveryBody, httpsig.ErrMalformed},
		"another label in Signature":      {func(m *httpsig.Message) { m.Header.Set("Signature", "x"+m.Header.Get("Signature")) }, deliveryBody, httpsig.ErrMissing},
		"another label in both":           {func(m *httpsig.Message) { relabel(m, "other") }, deliveryBody, nil},
		"no Signature":                    {func(m *httpsig.Message) { m.Header.Del("Signature") }, deliveryBody, httpsig.ErrMissing},
		"no Signature-Input":              {func(m *httpsig.Message) { m.Header.Del("Signature-Input") }, deliveryBody, httpsig.ErrMissing},
		"an empty Signature-Input":        {func(m *httpsig.Message) { m.Header.Set("Signature-Input", "") }, deliveryBody, httpsig.ErrMissing},
		"a garbled Signature-Input":       {func(m *httpsig.Message) { m.Header.Set("Signature-Input", "sig1=(") }, deliveryBody, httpsig.ErrMalformed},
		"a garbled Signature":             {func(m *httpsig.Message) { m.Header.Set("Signature", "sig1=:!:") }, deliveryBody, httpsig.ErrMalformed},
		"a Signature of text":             {func(m *httpsig.Message) { m.Header.Set("Signature", `sig1="x"`) }, deliveryBody, httpsig.ErrMalformed},
		"a Signature-Input of text":       {func(m *httpsig.Message) { m.Header.Set("Signature-Input", `sig1="x"`) }, deliveryBody, httpsig.ErrMalformed},
		"a cut signature":                 {func(m *httpsig.Message) { m.Header.Set("Signature", "sig1=:AAAA:") }, deliveryBody, httpsig.ErrSignature},
		"a signature of zeros":            {func(m *httpsig.Message) { m.Header.Set("Signature", "sig1=:"+strings.Repeat("A", 128)+":") }, deliveryBody, httpsig.ErrSignature},
		"an unknown label beside it":      {func(m *httpsig.Message) { stranger(m) }, deliveryBody, nil},
		"seventeen signatures":            {func(m *httpsig.Message) { crowd(m) }, deliveryBody, httpsig.ErrMalformed},
		"a fragment in the target":        {func(m *httpsig.Message) { m.URL += "#x" }, deliveryBody, httpsig.ErrMessage},
		"a line break in a header":        {func(m *httpsig.Message) { m.Header.Set("Webhook-Id", "x\n\"@method\": PUT") }, deliveryBody, httpsig.ErrMessage},
		"an md5 beside the right digest":  {func(m *httpsig.Message) { m.Header.Add("Content-Digest", "md5=:AAAA:") }, deliveryBody, httpsig.ErrSignature},
		"a response with the same fields": {func(m *httpsig.Message) { m.Status = http.StatusOK }, deliveryBody, httpsig.ErrMessage},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := delivery(t, p.signer)
			test.change(m)
			_, err := knows(signedAt+1, p).Verify(m, []byte(test.body))
			require.ErrorIs(t, err, test.want)
		})
	}
}

func relabel(m *httpsig.Message, label string) {
	for _, h := range []string{"Signature", "Signature-Input"} {
		m.Header.Set(h, strings.Replace(m.Header.Get(h), "sig1=", label+"=", 1))
	}
}

// stranger puts a signature of somebody else before ours.
func stranger(m *httpsig.Message) {
	m.Header["Signature-Input"] = []string{`proxy=("@unknown");keyid="theirs"`, m.Header.Get("Signature-Input")}
	m.Header["Signature"] = []string{"proxy=:AAAA:", m.Header.Get("Signature")}
}

func crowd(m *httpsig.Message) {
	for i := range 17 {
		m.Header.Add("Signature-Input", "l"+string(rune('a'+i))+`=();keyid="x"`)
	}
}

func TestSignaturesHaveTheirTime(t *testing.T) {
	t.Parallel()
	p := newPair(t, httpsig.Ed25519)
	for name, test := range map[string]struct {
		now    int64
		change func(*httpsig.Verifier)
		want   error
	}{
		"at once":                     {now: signedAt},
		"in the last second":          {now: signedAt + 299},
		"at the expiry":               {now: signedAt + 300, want: httpsig.ErrExpired},
		"a minute early":              {now: signedAt - 60},
		"more than a minute early":    {now: signedAt - 61, want: httpsig.ErrFuture},
		"five minutes early, allowed": {now: signedAt - 300, change: func(v *httpsig.Verifier) { v.MaxSkew = 300 * time.Second }},
		"older than the verifier has": {now: signedAt + 31, change: func(v *httpsig.Verifier) { v.MaxAge = 30 * time.Second }, want: httpsig.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := knows(test.now, p)
			if test.change != nil {
				test.change(v)
			}
			_, err := v.Verify(delivery(t, p.signer), []byte(deliveryBody))
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestWithoutExpiryTheAgeCounts(t *testing.T) {
	t.Parallel()
	p := newPair(t, httpsig.Ed25519)
	m := rfcRequest()
	require.NoError(t, httpsig.Sign(m, &httpsig.Params{Components: []string{"@method"}, Created: time.Unix(signedAt, 0)}, p.signer))
	v := knows(signedAt+300, p)
	v.Components, v.BodyComponents, v.Tag, v.RequireExpires = nil, nil, "", false
	_, err := v.Verify(m, []byte(rfcBody))
	require.NoError(t, err)
	v.Now = at(signedAt + 301)
	_, err = v.Verify(m, []byte(rfcBody))
	require.ErrorIs(t, err, httpsig.ErrExpired)
}

func TestTheWrongKeyUnderTheRightNameVerifiesNothing(t *testing.T) {
	t.Parallel()
	for _, alg := range []httpsig.Algorithm{httpsig.Ed25519, httpsig.ECDSAP256, httpsig.ECDSAP384, httpsig.RSAPSS} {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			right, wrong := newPair(t, alg), newPair(t, alg)
			wrong.id = right.id
			m := delivery(t, right.signer)
			_, err := knows(signedAt, right).Verify(m, []byte(deliveryBody))
			require.NoError(t, err)
			_, err = knows(signedAt, wrong).Verify(m, []byte(deliveryBody))
			require.ErrorIs(t, err, httpsig.ErrSignature)
		})
	}
	t.Run("hmac-sha256", func(t *testing.T) {
		t.Parallel()
		s, err := httpsig.NewSigner(httpsig.HMAC, "k", []byte(strings.Repeat("a", 32)))
		require.NoError(t, err)
		v := knows(signedAt)
		v.Keys = func(string) (httpsig.Key, bool) {
			return httpsig.Key{Algorithm: httpsig.HMAC, Key: []byte(strings.Repeat("b", 32))}, true
		}
		_, err = v.Verify(delivery(t, s), []byte(deliveryBody))
		require.ErrorIs(t, err, httpsig.ErrSignature)
	})
	t.Run("a public key does not serve as a secret", func(t *testing.T) {
		t.Parallel()
		p := newPair(t, httpsig.Ed25519)
		v := knows(signedAt)
		v.Keys = func(string) (httpsig.Key, bool) {
			return httpsig.Key{Algorithm: httpsig.HMAC, Key: p.key.Public()}, true
		}
		_, err := v.Verify(delivery(t, p.signer), []byte(deliveryBody))
		require.ErrorIs(t, err, httpsig.ErrKey)
	})
}

func TestDERIsNoSignature(t *testing.T) {
	t.Parallel()
	p := newPair(t, httpsig.ECDSAP384)
	m := delivery(t, p.signer)
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(strings.TrimPrefix(m.Header.Get("Signature"), "sig1="), ":"))
	require.NoError(t, err)
	require.Len(t, raw, 96)
	der := append([]byte{0x30, 0x64, 0x02, 0x30}, raw[:48]...)
	der = append(append(der, 0x02, 0x30), raw[48:]...)
	m.Header.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(der)+":")
	_, err = knows(signedAt, p).Verify(m, []byte(deliveryBody))
	require.ErrorIs(t, err, httpsig.ErrSignature)
}
