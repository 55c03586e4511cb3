package receivers

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/signature"
)

// now is when receivers judge; sent is when most requests were.
var (
	sent = time.Unix(1674087231, 0)
	now  = sent.Add(time.Second)
)

const (
	origin  = "https://consumer.example.com"
	target  = "/hooks/in?tenant=7&x=a%20b"
	id      = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
	contact = `{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}`

	notNow  = "the time is not now"
	noMatch = "no signature matches"
	missing = "a header is missing"
	unknown = "no signature by a known key"
	another = "the body is another"
)

// recorded is a request as it was on the wire.
type recorded struct {
	method, target string
	header         http.Header
	body           string
}

func (r recorded) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: consumer.example.com\r\n", r.method, r.target)
	for name, values := range r.header {
		for _, v := range values {
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	b.WriteString("\r\n" + r.body)
	return b.Bytes()
}

func post(body string) recorded {
	return recorded{http.MethodPost, target, http.Header{"Content-Type": {"application/json"}}, body}
}

// with is the request with a change of its own.
func (r recorded) with(change func(r *recorded)) recorded {
	r.header = r.header.Clone()
	change(&r)
	return r
}

func set(name, value string) func(*recorded) {
	return func(r *recorded) { r.header.Set(name, value) }
}

func repeated(name string) func(*recorded) {
	return func(r *recorded) { r.header.Add(name, r.header.Get(name)) }
}

func without(name string) func(*recorded) {
	return func(r *recorded) { r.header.Del(name) }
}

// otherBody is a change.
func otherBody(r *recorded) { r.body = "{}" }

func tricky() []string {
	return []string{
		`{}`, "{}\n", "", `{"s":"<&>"}`, "{\"s\":\"\u2028\u2029\"}", `{"n":9007199254740993,"f":0.1000,"b":1,"a":2}`, `{"name":"Söhne 😀"}`,
		strings.Repeat("x", 1<<20), "\xff\xfe\x00 not UTF-8", "\r\n\r\n{}\r\n\r\n", "\n",
	}
}

func secret(t *testing.T, text, kind string) signature.Secret {
	t.Helper()
	s, err := signature.ParseSecret(text, kind)
	require.NoError(t, err)
	return s
}

func standardVectors(t *testing.T) batch {
	t.Helper()
	known := secret(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", signature.KindHMAC)
	private := secret(t, "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==", signature.KindEd25519)
	foreign := secret(t, signature.GenerateHMAC(), signature.KindHMAC)
	foreignKey, _ := signature.GenerateEd25519()
	sign := func(body string, at time.Time, secrets ...signature.Secret) recorded {
		r := post(body)
		r.header.Set("webhook-id", id)
		r.header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
		r.header.Set("webhook-signature", signature.StandardWebhooks(id, at, []byte(body), secrets))
		return r
	}
	b := batch{keys: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="}
	for i, body := range tricky() {
		b.vectors = append(
			b.vectors,
			vector{fmt.Sprintf("v1, body %d", i), sign(body, sent, known), ""},
			vector{fmt.Sprintf("v1a, body %d", i), sign(body, sent, private), ""},
			vector{fmt.Sprintf("v1, a tail to body %d", i), sign(body, sent, known).with(func(r *recorded) { r.body += "\n" }), noMatch},
		)
	}
	good, goodKey := sign(contact, sent, known), sign(contact, sent, private)
	v1 := good.header.Get("webhook-signature")
	require.Equal(t, "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=", v1, "the published value")
	b.vectors = append(b.vectors, []vector{
		{"the published value", good, ""},
		{"a rotation, the known secret last", sign(contact, sent, foreign, private, known), ""},
		{"unknown versions and nonsense in the list", good.with(set("webhook-signature", "v9,AAAA nonsense v1, v1a,xx "+v1)), ""},
		{"the end of the tolerance", sign(contact, now.Add(-5*time.Minute), known), ""},
		{"the other end", sign(contact, now.Add(5*time.Minute), known), ""},
		{"stale", sign(contact, now.Add(-301*time.Second), known), notNow},
		{"from the future", sign(contact, now.Add(301*time.Second), known), notNow},
		{"another secret", sign(contact, sent, foreign), noMatch},
		{"another key", sign(contact, sent, secret(t, foreignKey, signature.KindEd25519)), noMatch},
		{"another body", good.with(otherBody), noMatch},
		{"another body, v1a", goodKey.with(otherBody), noMatch},
		{"another id", good.with(set("webhook-id", "msg_x")), noMatch},
		{"another time", good.with(set("webhook-timestamp", "1674087232")), noMatch},
		{"a time with a tail", good.with(set("webhook-timestamp", "1674087231abc")), notNow},
		{"a time with a fraction", good.with(set("webhook-timestamp", "1674087231.0")), notNow},
		{"a time with a sign", good.with(set("webhook-timestamp", "+1674087231")), notNow},
		{"a time beyond every clock", good.with(set("webhook-timestamp", "99999999999999999999")), notNow},
		{"no id", good.with(without("webhook-id")), missing},
		{"no time", good.with(without("webhook-timestamp")), missing},
		{"no signature", good.with(without("webhook-signature")), missing},
		{"an empty signature", good.with(set("webhook-signature", "v1,")), noMatch},
		{"the signature as another version", good.with(set("webhook-signature", "v1a,"+v1[3:])), noMatch},
		{"the key's signature as another version", goodKey.with(set("webhook-signature", "v1,"+goodKey.header.Get("webhook-signature")[4:])), noMatch},
		{"an id that is repeated", good.with(repeated("webhook-id")), noMatch},
		{"a time that is repeated", good.with(repeated("webhook-timestamp")), notNow},
		{"a wrong bit", good.with(set("webhook-signature", "v1,BRw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=")), noMatch},
	}...)
	return b
}

func jewelVectors(t *testing.T) batch {
	t.Helper()
	const text = "jewel_whsec_5f1d"
	known := secret(t, text, signature.KindText)
	sign := func(body string, s signature.Secret) recorded {
		r := post(body)
		r.header.Set("X-JewelMusic-Event", "release.live")
		r.header.Set("X-JewelMusic-Timestamp", "1674087231")
		r.header.Set("X-JewelMusic-Signature", "sha256="+signature.HexHMAC(s, []byte(body)))
		return r
	}
	b := batch{keys: "another " + text}
	for i, body := range tricky() {
		b.vectors = append(
			b.vectors,
			vector{fmt.Sprintf("body %d", i), sign(body, known), ""},
			vector{fmt.Sprintf("a tail to body %d", i), sign(body, known).with(func(r *recorded) { r.body += "\n" }), noMatch},
		)
	}
	const published = `{"id":"evt_1234567890","type":"release.live","created":1693526400,"data":{"release_id":"rel_abc123def456",` +
		`"title":"My Album","artist":"Artist Name","status":"live","platforms":[{"name":"spotify","status":"live",` +
		`"url":"https://open.spotify.com/album/..."},{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
		`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}}`
	good := sign(published, known)
	const header = "X-JewelMusic-Signature"
	require.Equal(t, "sha256=c5d39dd49a088590501178966f96ab4950e574051eb8f013904a0b888ab774af", good.header.Get(header), "the published value")
	b.vectors = append(b.vectors, []vector{
		{"the published value", good, ""},
		{"the older secret", sign(published, secret(t, "another", signature.KindText)), ""},
		{"an unknown secret", sign(published, secret(t, "unknown", signature.KindText)), noMatch},
		{"another body", good.with(otherBody), noMatch},
		{"no signature", good.with(without(header)), noMatch},
		{"another prefix", good.with(set(header, "sha1"+good.header.Get(header)[6:])), noMatch},
		{"a cut signature", good.with(set(header, good.header.Get(header)[:69])), noMatch},
		{"a signature that is repeated", good.with(repeated(header)), noMatch},
		{"a list of signatures", good.with(set(header, good.header.Get(header)+","+good.header.Get(header))), noMatch},
	}...)
	return b
}

// messageKey is a key pair of HTTP message signatures.
type messageKey struct {
	signer *httpsig.Signer
	text   string // keyid=base64
}

func newMessageKey(t *testing.T, alg httpsig.Algorithm) messageKey {
	t.Helper()
	key, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	keyID, err := httpsig.Thumbprint(key.Public())
	require.NoError(t, err)
	signer, err := httpsig.NewSigner(alg, keyID, key)
	require.NoError(t, err)
	public, err := httpsig.EncodePublicKey(key.Public())
	require.NoError(t, err)
	return messageKey{signer, keyID + "=" + public}
}

// covered is what deliveries cover.
var (
	covered      = []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id", "webhook-timestamp"}
	coveredParts = []string{"@method", "@authority", "@path", "@query", "content-digest"}
)

func signMessage(t *testing.T, r recorded, at time.Time, signer *httpsig.Signer, change func(p *httpsig.Params)) recorded {
	t.Helper()
	p := &httpsig.Params{Components: covered, Created: at, Expires: at.Add(5 * time.Minute), Tag: "webhook"}
	r = r.with(func(r *recorded) {
		r.header.Set("Content-Digest", httpsig.ContentDigest([]byte(r.body)))
		r.header.Set("Webhook-Id", id)
		r.header.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	})
	if change != nil {
		change(p)
	}
	m := &httpsig.Message{Method: r.method, URL: origin + r.target, Header: r.header}
	require.NoError(t, httpsig.Sign(m, p, signer))
	return r
}

func messageVectors(t *testing.T) batch {
	t.Helper()
	foreign := newMessageKey(t, httpsig.Ed25519)
	b := batch{origin: origin}
	var keys []string
	for _, alg := range []httpsig.Algorithm{httpsig.Ed25519, httpsig.ECDSAP256, httpsig.ECDSAP384} {
		key := newMessageKey(t, alg)
		keys = append(keys, key.text)
		sign := func(body string, change func(p *httpsig.Params)) recorded {
			return signMessage(t, post(body), sent, key.signer, change)
		}
		add := func(name string, r recorded, want string) {
			b.vectors = append(b.vectors, vector{string(alg) + ": " + name, r, want})
		}
		for i, body := range tricky() {
			add(fmt.Sprintf("body %d", i), sign(body, nil), "")
			add(fmt.Sprintf("a tail to body %d", i), sign(body, nil).with(func(r *recorded) { r.body += "\n" }), another)
		}
		good := sign(contact, nil)
		parts := func(p *httpsig.Params) { p.Components = coveredParts }
		add("the parts of the URL", sign(contact, parts), "")
		add("another host among the parts", sign(contact, parts).with(func(r *recorded) { r.target = "/hooks/out?tenant=7&x=a%20b" }), noMatch)
		add("a query without anything", signMessage(t, post(contact).with(func(r *recorded) { r.target = "/" }), sent, key.signer, parts), "")
		add("a GET without a body", signMessage(t, post("").with(func(r *recorded) { r.method = http.MethodGet }), sent, key.signer,
			func(p *httpsig.Params) { p.Components = []string{"@method", "@target-uri"} }), "")
		add("a signature by somebody else before", good.with(func(r *recorded) {
			other := signMessage(t, post(contact), sent, foreign.signer, nil)
			for _, name := range []string{"Signature-Input", "Signature"} {
				r.header.Set(name, strings.Replace(other.header.Get(name), "sig1", "their.sig-1", 1)+", "+good.header.Get(name))
			}
		}), "")
		add("a signature by somebody else", signMessage(t, post(contact), sent, foreign.signer, nil), unknown)
		add("another method", good.with(func(r *recorded) { r.method = http.MethodPut }), noMatch)
		add("another query", good.with(func(r *recorded) { r.target = "/hooks/in?tenant=8&x=a%20b" }), noMatch)
		add("another id", good.with(set("Webhook-Id", "msg_x")), noMatch)
		add("an id that is repeated", good.with(repeated("Webhook-Id")), noMatch)
		add("another body with its digest", good.with(otherBody).with(set("Content-Digest", httpsig.ContentDigest([]byte("{}")))), noMatch)
		add("a header that is missing", good.with(without("Webhook-Id")), "webhook-id is missing")
		add("no signature", good.with(without("Signature")), unknown)
		add("no input", good.with(without("Signature-Input")), unknown)
		add("another signature", good.with(set("Signature", "sig1=:AAAA:")), noMatch)
		add("another tag", sign(contact, func(p *httpsig.Params) { p.Tag = "web-bot-auth" }), unknown)
		add("a body that is not covered", sign(contact, func(p *httpsig.Params) { p.Components = covered[:2] }), "the body is not covered")
		add("a URL that is not covered", sign(contact, func(p *httpsig.Params) { p.Components = slices.Concat(covered[:1], covered[2:]) }), "the URL is not covered")
		add("stale", signMessage(t, post(contact), now.Add(-301*time.Second), key.signer, func(p *httpsig.Params) { p.Expires = now.Add(time.Hour) }), notNow)
		add("expired", sign(contact, func(p *httpsig.Params) { p.Expires = now }), notNow)
		add("from the future", signMessage(t, post(contact), now.Add(61*time.Second), key.signer, nil), notNow)
		add("another algorithm", good.with(func(r *recorded) {
			input := r.header.Get("Signature-Input")
			r.header.Set("Signature-Input", strings.Replace(input, string(alg), "hmac-sha256", 1))
		}), "the algorithm is not the key's")
	}
	b.keys = strings.Join(keys, " ")
	return b
}
