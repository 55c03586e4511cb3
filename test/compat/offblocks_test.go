//go:build e2e

package compat

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/system"
)

const offblocksCallback = `{"callbackUrl":"https://example.com/callback"}`

func TestOffBlocks(t *testing.T) {
	s := open(t)
	for name, check := range map[string]func(*testing.T, *system.Account){
		"1.4.1 creates and updates":           offblocksPut,
		"1.4.2 ids":                           offblocksIDs,
		"1.4.3 URLs and types":                offblocksRules,
		"1.4.4 reads and deletes":             offblocksReads,
		"1.4.5 errors":                        offblocksErrors,
		"1.4.6 what a request must have":      offblocksHeaders,
		"1.4.7 client keys":                   offblocksClientKeys,
		"1.4.8 what a signature covers":       offblocksCover,
		"1.4.9 digests":                       offblocksDigests,
		"1.4.10 idempotency":                  offblocksIdempotency,
		"1.4.11 the delivery":                 offblocksDelivery,
		"1.4.12 the signature":                offblocksSignature,
		"1.4.13 the verification key":         offblocksKey,
		"1.4.14 retries":                      offblocksRetries,
		"1.4.15 repeats are told by eventId":  offblocksRepeats,
		"1.4.12 every negative of a delivery": offblocksNegatives,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, s.NewAccount(t))
		})
	}
}

func offblocksPut(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	got := c.must(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback})
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Regexp(t, `"createdAt":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"`, got.body, "ISO 8601 in UTC")
	var made offblocksWebhook
	got.into(t, &made)
	require.NoError(t, uuid.Validate(made.ID))
	require.Equal(t, "https://example.com/callback", made.CallbackURL)
	require.Equal(t, made.CreatedAt, made.UpdatedAt)

	changed := c.put(t, `{"id":"`+made.ID+`","callbackUrl":"https://example.com/other","types":["card.updated","account.updated"]}`)
	require.Equal(t, made.ID, changed.ID)
	require.Equal(t, made.CreatedAt, changed.CreatedAt)
	require.True(t, changed.UpdatedAt.After(made.UpdatedAt))
	require.Equal(t, "https://example.com/other", changed.CallbackURL)
	require.ElementsMatch(t, []string{"card.updated", "account.updated"}, changed.Types)
}

func offblocksIDs(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.Ed25519)
	one, two := c.put(t, offblocksCallback), c.put(t, offblocksCallback)
	require.NotEqual(t, one.ID, two.ID, "without an id, a new one each time")
	chosen := uuid.NewString()
	body := `{"id":"` + chosen + `","callbackUrl":"https://example.com/chosen"}`
	require.Equal(t, chosen, c.put(t, body).ID, "an unknown UUID is created under it")
	for _, id := range []string{"", "7", "wh_01JZZZZZZZZZZZZZZZZZZZZZZZ", "{" + chosen + "}", chosen + "0"} {
		got := c.do(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: `{"id":"` + id + `","callbackUrl":"https://example.com"}`})
		require.Equal(t, http.StatusBadRequest, got.status, "%q: %s", id, got.body)
	}
	other := newOffblocksClient(t, a.NewAccount(t), httpsig.Ed25519)
	status, _ := other.get(t, chosen)
	require.Equal(t, http.StatusNotFound, status)
	theirs := other.put(t, `{"id":"`+chosen+`","callbackUrl":"https://other.example/"}`)
	require.Equal(t, chosen, theirs.ID, "as any unknown one")
	_, mine := c.get(t, chosen)
	require.Equal(t, "https://example.com/chosen", mine.CallbackURL)
	require.Equal(t, http.StatusNoContent, other.do(t, offblocksCall{method: http.MethodDelete, path: "/v1/webhooks/" + chosen}).status)
	status, _ = c.get(t, chosen)
	require.Equal(t, http.StatusOK, status)

	// A webhook of another profile is none here, and its UUID is taken.
	foreign := a.Webhook(t, &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}, Uuid: uuid.NewString()}).GetWebhook()
	status, _ = c.get(t, foreign.GetUuid())
	require.Equal(t, http.StatusNotFound, status)
	got := c.do(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: `{"id":"` + foreign.GetUuid() + `","callbackUrl":"https://example.com"}`})
	require.Equal(t, http.StatusBadRequest, got.status, got.body)
}

func offblocksRules(t *testing.T, _ *system.Account) {
	a := open(t).NewAccount(t, func(acc *postriderv1.Account) { acc.AllowHttp = new(false) })
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	require.ElementsMatch(t, []string{"customer.updated", "account.updated", "card.updated", "authorisation.updated", "transaction.updated"},
		c.put(t, offblocksCallback).Types, "omitted means all")
	for _, body := range []string{
		`{}`, `{"callbackUrl":null}`, `{"callbackUrl":""}`, `{"callbackUrl":7}`, `{"callbackUrl":"example.com"}`, `{"callbackUrl":"/callback"}`,
		`{"callbackUrl":"http://example.com"}`, `{"callbackUrl":"ftp://example.com"}`, `{"callbackUrl":"https://"}`, `{"callbackUrl":"https://u:p@example.com"}`,
		`{"callbackUrl":"https://example.com","types":["card.deleted"]}`, `{"callbackUrl":"https://example.com","types":["*"]}`,
		`{"callbackUrl":"https://example.com","types":[]}`, `{"callbackUrl":"https://example.com","types":"card.updated"}`,
		`[]`, `null`, `{"callbackUrl":"https://example.com"`, `{"callbackUrl":"https://example.com"}x`,
	} {
		got := c.do(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: body})
		require.Equal(t, http.StatusBadRequest, got.status, "%s: %s", body, got.body)
	}
}

func offblocksReads(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.ECDSAP256)
	list := func() (out []offblocksWebhook) {
		c.must(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks"}).into(t, &out)
		return out
	}
	require.Equal(t, "[]", c.must(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks"}).body)
	one, two := c.put(t, offblocksCallback), c.put(t, offblocksCallback)
	a.Webhook(t, &postriderv1.Webhook{Url: "https://example.com", EventTypes: []string{"*"}})
	require.Equal(t, []offblocksWebhook{one, two}, list(), "of this profile alone")
	status, read := c.get(t, one.ID)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, one, read)

	record, err := a.Webhooks.GetWebhook(a.Ctx(t), &postriderv1.GetWebhookRequest{Uuid: two.ID})
	require.NoError(t, err)
	_, err = a.Webhooks.PauseWebhook(a.Ctx(t), &postriderv1.PauseWebhookRequest{WebhookId: record.GetWebhook().GetId()})
	require.NoError(t, err)
	require.Equal(t, []offblocksWebhook{one}, list(), "the active ones")

	got := c.do(t, offblocksCall{method: http.MethodDelete, path: "/v1/webhooks/" + one.ID})
	require.Equal(t, http.StatusNoContent, got.status)
	require.Empty(t, got.body)
	status, _ = c.get(t, one.ID)
	require.Equal(t, http.StatusNotFound, status)
	require.Empty(t, list())
}

func offblocksErrors(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	read := a.NewKey(t, "read")
	for name, test := range map[string]struct {
		call offblocksCall
		want int
	}{
		"an invalid request": {offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: `{}`}, 400},
		"no credential":      {offblocksCall{method: http.MethodGet, path: "/v1/webhooks", bearer: "-"}, 401},
		"a wrong credential": {offblocksCall{method: http.MethodGet, path: "/v1/webhooks", bearer: "nobody"}, 401},
		"a key that may not": {offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback, bearer: read}, 401},
		"an unknown webhook": {offblocksCall{method: http.MethodGet, path: "/v1/webhooks/" + uuid.NewString()}, 404},
		"none to delete":     {offblocksCall{method: http.MethodDelete, path: "/v1/webhooks/" + uuid.NewString()}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.do(t, test.call)
			require.Equal(t, test.want, got.status, got.body)
			var body struct {
				Status        int
				Code, Message string
			}
			got.into(t, &body)
			require.Equal(t, test.want, body.Status)
			require.NotEmpty(t, body.Message)
		})
	}
}

func offblocksHeaders(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	put := offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback}
	change := func(f func(*offblocksCall)) offblocksCall {
		q := put
		f(&q)
		return q
	}
	made := c.put(t, offblocksCallback)
	for name, test := range map[string]struct {
		call offblocksCall
		want int
	}{
		"all of it":                     {put, 200},
		"no bearer token":               {change(func(q *offblocksCall) { q.bearer = "-" }), 401},
		"no signature":                  {change(func(q *offblocksCall) { q.unsigned = true }), 401},
		"no signature on a GET":         {offblocksCall{method: http.MethodGet, path: "/v1/webhooks", unsigned: true}, 401},
		"no signature on a DELETE":      {offblocksCall{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, unsigned: true}, 401},
		"an empty Signature":            {change(func(q *offblocksCall) { q.header = map[string]string{"Signature": ""} }), 401},
		"an empty Signature-Input":      {change(func(q *offblocksCall) { q.header = map[string]string{"Signature-Input": ""} }), 401},
		"no idempotency key":            {change(func(q *offblocksCall) { q.idempotency = "-" }), 400},
		"none on a DELETE":              {offblocksCall{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, idempotency: "-"}, 400},
		"a key that is no UUID":         {change(func(q *offblocksCall) { q.idempotency = "seven" }), 400},
		"the key as a structured field": {change(func(q *offblocksCall) { q.idempotency = `"` + uuid.NewString() + `"` }), 200},
		"no digest":                     {change(func(q *offblocksCall) { q.digest = "-" }), 400},
		"no digest is needed for a GET": {offblocksCall{method: http.MethodGet, path: "/v1/webhooks"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.do(t, test.call)
			require.Equal(t, test.want, got.status, got.body)
		})
	}
}

func offblocksClientKeys(t *testing.T, a *system.Account) {
	for _, alg := range []httpsig.Algorithm{httpsig.ECDSAP384, httpsig.ECDSAP256, httpsig.Ed25519} {
		a := a.NewAccount(t)
		c := newOffblocksClient(t, a, alg)
		require.NotEqual(t, "first", c.keyID, "the answer has the key's id")
		require.Equal(t, http.StatusOK, c.do(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks"}).status, alg)
		require.Equal(t, http.StatusNoContent, c.do(t, offblocksCall{method: http.MethodDelete, path: "/auth/signing"}).status)
		require.Equal(t, http.StatusUnauthorized, c.do(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks"}).status)
	}
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	rsa, err := httpsig.GenerateKey(httpsig.RSAPSS)
	require.NoError(t, err)
	for _, body := range []string{offblocksUpload(t, rsa), `{"publicKey":"eA=="}`, `{}`, `x`} {
		require.Equal(t, http.StatusBadRequest, c.do(t, offblocksCall{method: http.MethodPut, path: "/auth/signing", body: body}).status, body)
	}
	thief, err := httpsig.GenerateKey(httpsig.ECDSAP384)
	require.NoError(t, err)
	stolen := offblocksCall{method: http.MethodPut, path: "/auth/signing", body: offblocksUpload(t, thief), unsigned: true}
	require.Equal(t, http.StatusUnauthorized, c.do(t, stolen).status, "a bearer token alone adds no second key")
}

func offblocksCover(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	put := offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback}
	for _, component := range []string{"@method", "@target-uri", "content-type", "content-digest", "idempotency-key"} {
		q := put
		q.without = []string{component}
		require.Equal(t, http.StatusUnauthorized, c.do(t, q).status, "without %s", component)
	}
	for age, want := range map[time.Duration]int{
		290 * time.Second: 200, 302 * time.Second: 401, -290 * time.Second: 200, -310 * time.Second: 401,
	} {
		q := put
		q.age = age
		require.Equal(t, want, c.do(t, q).status, "%s old", age)
	}
	unknown := *c
	unknown.keyID = "unknown"
	require.Equal(t, http.StatusUnauthorized, unknown.do(t, put).status)
	stranger := newOffblocksClient(t, a.NewAccount(t), httpsig.ECDSAP384)
	stranger.Account = c.Account
	require.Equal(t, http.StatusUnauthorized, stranger.do(t, put).status, "another account's key")
	forged := *c
	forged.key = stranger.key
	require.Equal(t, http.StatusUnauthorized, forged.do(t, put).status, "another key under the right id")
	for name, value := range map[string]string{"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": uuid.NewString()} {
		q := put
		q.header = map[string]string{name: value}
		require.Equal(t, http.StatusUnauthorized, c.do(t, q).status, "%s was changed", name)
	}
}

func offblocksDigests(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.ECDSAP384)
	const sha512 = "sha-512=:HdDPE4VnQz7mlY4jTc5TNpBzCA+VjVZcOwKLBS1sZzNg1Xf5bRkTZ2bKEOrEQ8Vt5oDSBJPzPjbEQXvyVHvzkg==:"
	right := httpsig.ContentDigest([]byte(offblocksCallback))
	for digest, want := range map[string]int{
		right:                              200,
		right + ", future=:AAAA:":          200,
		"md5=:AAAA:, " + right:             200,
		right + ", " + sha512:              400, // one of two is wrong
		sha512:                             400,
		httpsig.ContentDigest([]byte("x")): 400,
		"md5=:AAAA:":                       400,
		"sha=:AAAA:":                       400,
		"md5=:AAAA:, sha=:AAAA:":           400,
		"sha-256=nothing":                  400,
		"SHA-256=" + strings.Trim(strings.TrimPrefix(right, "sha-256="), ":"): 400,
	} {
		got := c.do(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback, digest: digest})
		require.Equal(t, want, got.status, "%s: %s", digest, got.body)
	}
	got := c.do(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback, digest: digest512(offblocksCallback)})
	require.Equal(t, http.StatusOK, got.status, got.body)
}

func offblocksIdempotency(t *testing.T, a *system.Account) {
	c := newOffblocksClient(t, a, httpsig.Ed25519)
	put := offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback, idempotency: uuid.NewString()}
	first, again := c.must(t, put), c.must(t, put)
	require.Equal(t, first.body, again.body)
	require.Equal(t, first.status, again.status)
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	other := put
	other.body = `{"callbackUrl":"https://example.com/other"}`
	require.Equal(t, http.StatusUnprocessableEntity, c.do(t, other).status)
	bad := offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: `{}`, idempotency: uuid.NewString()}
	refused, repeated := c.do(t, bad), c.do(t, bad)
	require.Equal(t, http.StatusBadRequest, refused.status)
	require.Equal(t, refused.body, repeated.body)
	require.Equal(t, "true", repeated.header.Get("Idempotency-Replayed"), "a refusal is an answer too")

	var made offblocksWebhook
	first.into(t, &made)
	remove := offblocksCall{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, idempotency: put.idempotency}
	for range 2 {
		require.Equal(t, http.StatusNoContent, c.do(t, remove).status, "the key is one of its method and path")
	}
	remove.idempotency = uuid.NewString()
	require.Equal(t, http.StatusNotFound, c.do(t, remove).status)
	require.Equal(t, first.body, c.do(t, put).body, "the answer stays what it was")
	stranger := newOffblocksClient(t, a.NewAccount(t), httpsig.Ed25519)
	require.NotContains(t, stranger.must(t, put).body, made.ID, "and of its account")

	at := offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: offblocksCallback, idempotency: uuid.NewString()}
	var wg sync.WaitGroup
	answers := make([]offblocksAnswer, 8)
	for i := range answers {
		wg.Go(func() { answers[i] = c.do(t, at) })
	}
	wg.Wait()
	bodies := map[string]bool{}
	for _, got := range answers {
		if got.status != http.StatusConflict {
			require.Equal(t, http.StatusOK, got.status, got.body)
			bodies[got.body] = true
		}
	}
	require.Len(t, bodies, 1, "at once: one effect; whoever comes while it runs is told so")
}
