package api_test

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
)

const offblocksPath = "/compat/offblocks"

// client is an OffBlocks client of an account: it signs its requests.
type client struct {
	t       *testing.T
	url     string
	bearer  string
	key     crypto.Signer
	alg     httpsig.Algorithm
	keyID   string
	account string
	signAs  string // the base of what is signed, if it is not url
}

// call is a request, which a test may change before it is sent.
type call struct {
	method, path, body string
	key                string        // of idempotency; a new one for PUT and DELETE by default
	components         []string      // default: all that are required
	at                 time.Duration // from now, for `created`
	unsigned           bool
	change             func(*http.Request) // after signing
	digest             string              // in place of the right one; "-" for none
}

type answered struct {
	status int
	body   string
	header http.Header
}

func (a answered) into(t *testing.T, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.body), v), a.body)
}

type subscription struct {
	ID          string    `json:"id"`
	CallbackURL string    `json:"callbackUrl"`
	Types       []string  `json:"types"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

func (c *client) do(q call) answered {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), q.method, c.url+offblocksPath+q.path, strings.NewReader(q.body))
	require.NoError(c.t, err)
	req.Header.Set("Authorization", "Bearer "+c.bearer)
	components := []string{"@method", "@target-uri"}
	if q.key == "" && (q.method == http.MethodPut || q.method == http.MethodDelete) {
		q.key = uuid.NewString()
	}
	if q.key != "" && q.key != "-" {
		req.Header.Set("Idempotency-Key", q.key)
		components = append(components, "idempotency-key")
	}
	if q.body != "" {
		req.Header.Set("Content-Type", "application/json")
		switch q.digest {
		case "-":
		case "":
			req.Header.Set("Content-Digest", httpsig.ContentDigest([]byte(q.body)))
		default:
			req.Header.Set("Content-Digest", q.digest)
		}
		components = append(components, "content-type")
		if q.digest != "-" {
			components = append(components, "content-digest")
		}
	}
	if q.components != nil {
		components = q.components
	}
	if !q.unsigned {
		signer, err := httpsig.NewSigner(c.alg, c.keyID, c.key)
		require.NoError(c.t, err)
		target := req.URL.String()
		if c.signAs != "" {
			target = c.signAs + offblocksPath + q.path
		}
		require.NoError(c.t, httpsig.Sign(&httpsig.Message{Method: q.method, URL: target, Header: req.Header},
			&httpsig.Params{Components: components, Created: time.Now().Add(q.at)}, signer))
	}
	if q.change != nil {
		q.change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return answered{resp.StatusCode, string(raw), resp.Header}
}

// newClient makes an account with a client key.
func newClient(t *testing.T, r *replica, alg httpsig.Algorithm) *client {
	t.Helper()
	c := &client{t: t, url: r.url, alg: alg, key: generate(t, alg), keyID: "not known yet"}
	c.account, c.bearer = r.newAccount(t, "manage", "read")
	var uploaded struct{ ID, PublicKey string }
	got := c.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, c.key)})
	require.Equal(t, http.StatusOK, got.status, got.body)
	got.into(t, &uploaded)
	c.keyID = uploaded.ID
	require.NotEmpty(t, c.keyID)
	return c
}

func uploadOf(t *testing.T, key crypto.Signer) string {
	t.Helper()
	return fmt.Sprintf(`{"publicKey":%q}`, base64.StdEncoding.EncodeToString([]byte(publicPEM(t, key.Public()))))
}

// at is the same client at another replica.
func (c client) at(r *replica) *client {
	c.url = r.url
	return &c
}

func TestOffBlocksManagesWebhooks(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	for _, alg := range []httpsig.Algorithm{httpsig.ECDSAP384, httpsig.ECDSAP256, httpsig.Ed25519} {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			c := newClient(t, r, alg)
			var made, changed, read subscription
			got := c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"callbackUrl":"https://example.com/callback"}`})
			require.Equal(t, http.StatusOK, got.status, got.body)
			got.into(t, &made)
			require.Equal(t, "https://example.com/callback", made.CallbackURL)
			require.Len(t, made.Types, 5, "omitted means all")
			require.NoError(t, uuid.Validate(made.ID))
			require.Regexp(t, `"createdAt":"[-0-9]{10}T[:.0-9]+Z"`, got.body)

			got = c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"id":"` + strings.ToUpper(made.ID) + `","callbackUrl":"https://example.com/other","types":["card.updated"]}`})
			require.Equal(t, http.StatusOK, got.status, got.body)
			got.into(t, &changed)
			require.Equal(t, made.ID, changed.ID)
			require.Equal(t, made.CreatedAt, changed.CreatedAt)
			require.True(t, changed.UpdatedAt.After(made.UpdatedAt))
			require.Equal(t, []string{"card.updated"}, changed.Types)

			got = c.do(call{method: http.MethodGet, path: "/v1/webhooks/" + made.ID})
			require.Equal(t, http.StatusOK, got.status, got.body)
			got.into(t, &read)
			require.Equal(t, changed, read)

			chosen := uuid.NewString()
			got = c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"id":"` + chosen + `","callbackUrl":"https://example.com/chosen"}`})
			require.Equal(t, http.StatusOK, got.status, got.body)
			got.into(t, &read)
			require.Equal(t, chosen, read.ID)
			var list []subscription
			c.do(call{method: http.MethodGet, path: "/v1/webhooks"}).into(t, &list)
			require.Len(t, list, 2)

			got = c.do(call{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID})
			require.Equal(t, http.StatusNoContent, got.status, got.body)
			require.Empty(t, got.body)
			for _, method := range []string{http.MethodGet, http.MethodDelete} {
				require.Equal(t, http.StatusNotFound, c.do(call{method: method, path: "/v1/webhooks/" + made.ID}).status)
			}

			// Another account's is unknown here: the id can be taken, and nothing is told.
			other := newClient(t, r, alg)
			require.Equal(t, http.StatusNotFound, other.do(call{method: http.MethodGet, path: "/v1/webhooks/" + chosen}).status)
			require.Equal(t, http.StatusNotFound, other.do(call{method: http.MethodDelete, path: "/v1/webhooks/" + chosen}).status)
			got = other.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"id":"` + chosen + `","callbackUrl":"https://other.example/x"}`})
			require.Equal(t, http.StatusOK, got.status, got.body)
			c.do(call{method: http.MethodGet, path: "/v1/webhooks/" + chosen}).into(t, &read)
			require.Equal(t, "https://example.com/chosen", read.CallbackURL)
		})
	}
}

func TestOffBlocksRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	c := newClient(t, r, httpsig.ECDSAP384)
	const body = `{"callbackUrl":"https://example.com/callback"}`
	put := func(change func(*call)) call {
		q := call{method: http.MethodPut, path: "/v1/webhooks", body: body}
		change(&q)
		return q
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	stranger := *c
	stranger.key = generate(t, httpsig.ECDSAP384)
	unknown := *c
	unknown.keyID = "unknown"
	nobody := *c
	nobody.bearer = "nobody"
	admin := *c
	admin.bearer = adminKey
	all := []string{"@method", "@target-uri", "idempotency-key", "content-type", "content-digest"}
	without := func(name string) []string {
		var out []string
		for _, each := range all {
			if each != name {
				out = append(out, each)
			}
		}
		return out
	}
	for name, test := range map[string]struct {
		client *client
		call   call
		want   int
	}{
		"no credential":          {&nobody, put(func(*call) {}), 401},
		"an admin's":             {&admin, put(func(*call) {}), 401},
		"no callbackUrl":         {c, put(func(q *call) { q.body = `{}` }), 400},
		"a relative callbackUrl": {c, put(func(q *call) { q.body = `{"callbackUrl":"/x"}` }), 400},
		"http":                   {c, put(func(q *call) { q.body = `{"callbackUrl":"http://example.com"}` }), 400},
		"an id that is no UUID":  {c, put(func(q *call) { q.body = `{"id":"7","callbackUrl":"https://example.com"}` }), 400},
		"an unknown type":        {c, put(func(q *call) { q.body = `{"callbackUrl":"https://example.com","types":["card.deleted"]}` }), 400},
		"no types":               {c, put(func(q *call) { q.body = `{"callbackUrl":"https://example.com","types":[]}` }), 400},
		"types of numbers":       {c, put(func(q *call) { q.body = `{"callbackUrl":"https://example.com","types":[1]}` }), 400},
		"no JSON":                {c, put(func(q *call) { q.body = `callbackUrl` }), 400},
		"JSON and more":          {c, put(func(q *call) { q.body = body + `{}` }), 400},
		"no body":                {c, put(func(q *call) { q.body = "" }), 400},
		"a form":                 {c, put(func(q *call) { q.change = set("Content-Type", "application/x-www-form-urlencoded") }), 400},
		"no digest":              {c, put(func(q *call) { q.digest = "-" }), 400},
		"md5 alone":              {c, put(func(q *call) { q.digest = "md5=:AAAA:" }), 400},
		"a digest of another":    {c, put(func(q *call) { q.digest = httpsig.ContentDigest([]byte("x")) }), 400},
		"no idempotency key":     {c, put(func(q *call) { q.key = "-" }), 400},
		"a key that is no UUID":  {c, put(func(q *call) { q.key = "abc" }), 400},
		"no signature":           {c, put(func(q *call) { q.unsigned = true }), 401},
		"no Signature":           {c, put(func(q *call) { q.change = func(r *http.Request) { r.Header.Del("Signature") } }), 401},
		"no Signature-Input":     {c, put(func(q *call) { q.change = func(r *http.Request) { r.Header.Del("Signature-Input") } }), 401},
		"a stranger's key":       {&stranger, put(func(*call) {}), 401},
		"an unknown keyid":       {&unknown, put(func(*call) {}), 401},
		"an old signature":       {c, put(func(q *call) { q.at = -302 * time.Second }), 401},
		"a signature too early":  {c, put(func(q *call) { q.at = 310 * time.Second }), 401},
		"a signature in 4 min":   {c, put(func(q *call) { q.at = 240 * time.Second }), 200},
		"a signature of 4 min":   {c, put(func(q *call) { q.at = -240 * time.Second }), 200},
		"the method not covered": {c, put(func(q *call) { q.components = without("@method") }), 401},
		"the target not covered": {c, put(func(q *call) { q.components = without("@target-uri") }), 401},
		"the key not covered":    {c, put(func(q *call) { q.components = without("idempotency-key") }), 401},
		"the type not covered":   {c, put(func(q *call) { q.components = without("content-type") }), 401},
		"the digest not covered": {c, put(func(q *call) { q.components = without("content-digest") }), 401},
		"more covered": {c, put(func(q *call) {
			q.components = append([]string{"host", "content-length", "@authority"}, all...)
			q.change = nil
		}), 401},
		"another key sent":        {c, put(func(q *call) { q.change = set("Idempotency-Key", uuid.NewString()) }), 401},
		"a webhook nobody has":    {c, call{method: http.MethodGet, path: "/v1/webhooks/" + uuid.NewString()}, 404},
		"an id that is none":      {c, call{method: http.MethodGet, path: "/v1/webhooks/7"}, 404},
		"a path that is none":     {c, call{method: http.MethodGet, path: "/v1/other"}, 404},
		"a path below":            {c, call{method: http.MethodGet, path: "/v1/webhooks/" + uuid.NewString() + "/x"}, 404},
		"a method that is none":   {c, call{method: http.MethodPost, path: "/v1/webhooks"}, 405},
		"a client key of RSA":     {c, call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, generate(t, httpsig.RSAPSS))}, 400},
		"a client key of nothing": {c, call{method: http.MethodPut, path: "/auth/signing", body: `{}`}, 400},
		"a GET without signature": {c, call{method: http.MethodGet, path: "/v1/webhooks/key", unsigned: true}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mine := *test.client
			mine.t = t
			if name == "more covered" {
				// Signed below with the fields that the transport sets.
				test.call.unsigned, test.want = true, 200
				test.call.change = func(r *http.Request) {
					h := maps.Clone(r.Header)
					h.Set("Host", r.URL.Host)
					h.Set("Content-Length", strconv.Itoa(len(body)))
					signer, err := httpsig.NewSigner(mine.alg, mine.keyID, mine.key)
					require.NoError(t, err)
					m := &httpsig.Message{Method: r.Method, URL: r.URL.String(), Header: h}
					require.NoError(t, httpsig.Sign(m, &httpsig.Params{Components: test.call.components, Created: time.Now()}, signer))
					for _, name := range []string{"Signature", "Signature-Input"} {
						r.Header.Set(name, h.Get(name))
					}
				}
			}
			got := mine.do(test.call)
			require.Equal(t, test.want, got.status, got.body)
			if got.status >= 400 {
				var f struct {
					Status        int
					Code, Message string
				}
				got.into(t, &f)
				require.Equal(t, test.want, f.Status)
				require.NotEmpty(t, f.Code)
				require.NotEmpty(t, f.Message)
				require.Equal(t, "application/json", got.header.Get("Content-Type"))
			}
		})
	}
}

func TestOffBlocksRepeatsAnswersOverReplicas(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	one, two := d.start(t, "one"), d.start(t, "two")
	c := newClient(t, one, httpsig.Ed25519)
	waitForKey(t, two, c.bearer)
	other := c.at(two)
	const body = `{"callbackUrl":"https://example.com/callback"}`
	key := uuid.NewString()
	first := c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: body, key: key})
	require.Equal(t, http.StatusOK, first.status, first.body)
	require.Empty(t, first.header.Get("Idempotency-Replayed"))
	// The targets differ by host, so the other replica is asked by the name of the first.
	for _, again := range []*client{c, c} {
		got := again.do(call{method: http.MethodPut, path: "/v1/webhooks", body: body, key: key})
		require.Equal(t, first.status, got.status)
		require.Equal(t, first.body, got.body)
		require.Equal(t, "true", got.header.Get("Idempotency-Replayed"))
	}
	got := c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"callbackUrl":"https://example.com/other"}`, key: key})
	require.Equal(t, http.StatusUnprocessableEntity, got.status, got.body)
	got = other.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"callbackUrl":"https://example.com/other"}`, key: `"` + key + `"`})
	require.Equal(t, http.StatusUnprocessableEntity, got.status, "the quoted form is the same key, at every replica: %s", got.body)

	// A refusal is repeated too.
	refused := uuid.NewString()
	for i := range 2 {
		got = c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{}`, key: refused})
		require.Equal(t, http.StatusBadRequest, got.status)
		require.Equal(t, i > 0, got.header.Get("Idempotency-Replayed") == "true")
	}
	// The same key at another path, and of another account, is another key.
	var made subscription
	first.into(t, &made)
	got = c.do(call{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, key: key})
	require.Equal(t, http.StatusNoContent, got.status, got.body)
	got = c.do(call{method: http.MethodDelete, path: "/v1/webhooks/" + made.ID, key: key})
	require.Equal(t, http.StatusNoContent, got.status, "as the first time")
	require.Equal(t, "true", got.header.Get("Idempotency-Replayed"))
	stranger := newClient(t, one, httpsig.Ed25519)
	got = stranger.do(call{method: http.MethodPut, path: "/v1/webhooks", body: body, key: key})
	require.Equal(t, http.StatusOK, got.status)
	require.NotContains(t, got.body, made.ID)

	// After a restart of everything but the store.
	one.stop()
	two.stop()
	d.nats.Restart(t)
	three := d.start(t, "three")
	waitForKey(t, three, c.bearer)
	got = c.at(three).do(call{method: http.MethodPut, path: "/v1/webhooks", body: `{"callbackUrl":"https://example.com/other"}`, key: key})
	require.Equal(t, http.StatusUnprocessableEntity, got.status, got.body)
}

func waitForKey(t *testing.T, r *replica, bearer string) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := postriderv1.NewAccountServiceClient(r.conn).GetAccount(as(t.Context(), bearer), &postriderv1.GetAccountRequest{})
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
}

func TestOffBlocksAtOnceOverReplicasMakesOneWebhook(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	const public = "https://hooks.example.com"
	withURL := func(cfg *api.Config) { cfg.PublicURL = public }
	one, two := d.start(t, "one", withURL), d.start(t, "two", withURL)
	c := &client{t: t, url: one.url, alg: httpsig.ECDSAP256, key: generate(t, httpsig.ECDSAP256), keyID: "k"}
	c.account, c.bearer = one.newAccount(t, "manage", "read")
	waitForKey(t, two, c.bearer)
	c.signAs = public
	send := func(r *replica, method, path, body, key string) answered {
		return c.at(r).do(call{method: method, path: path, body: body, key: key})
	}
	var uploaded struct{ ID string }
	got := send(one, http.MethodPut, "/v1/auth/signing", uploadOf(t, c.key), uuid.NewString())
	require.Equal(t, http.StatusOK, got.status, got.body)
	got.into(t, &uploaded)
	c.keyID = uploaded.ID

	key := uuid.NewString()
	var mu sync.Mutex
	statuses, bodies := map[int]int{}, map[string]int{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			got := send([]*replica{one, two}[i%2], http.MethodPut, "/v1/webhooks", `{"callbackUrl":"https://example.com/callback"}`, key)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
			if got.status == http.StatusOK {
				bodies[got.body]++
			}
		})
	}
	wg.Wait()
	require.Len(t, bodies, 1, "everybody who was answered was answered alike")
	require.Equal(t, 12, statuses[http.StatusOK]+statuses[http.StatusConflict], "%v", statuses)
	after := send(two, http.MethodPut, "/v1/webhooks", `{"callbackUrl":"https://example.com/callback"}`, key)
	require.Equal(t, http.StatusOK, after.status)
	require.Equal(t, "true", after.header.Get("Idempotency-Replayed"))
	list, err := postriderv1.NewWebhookServiceClient(two.conn).ListWebhooks(as(t.Context(), c.bearer), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetWebhooks(), 1)
	require.Equal(t, "offblocks", list.GetWebhooks()[0].GetProfile())
}

func TestOffBlocksClientKeysComeAndGo(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	c := newClient(t, r, httpsig.ECDSAP384)
	second := generate(t, httpsig.Ed25519)
	// Who has the credential alone cannot add a key any more.
	require.Equal(t, http.StatusUnauthorized, c.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, second), unsigned: true}).status)
	thief := *c
	thief.key, thief.alg = second, httpsig.Ed25519
	require.Equal(t, http.StatusUnauthorized, thief.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, second)}).status)
	got := c.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, second)})
	require.Equal(t, http.StatusOK, got.status, got.body)
	var uploaded struct{ ID string }
	got.into(t, &uploaded)
	next := *c
	next.key, next.alg, next.keyID = second, httpsig.Ed25519, uploaded.ID
	require.Equal(t, http.StatusOK, next.do(call{method: http.MethodGet, path: "/v1/webhooks"}).status)
	require.Equal(t, http.StatusNoContent, c.do(call{method: http.MethodDelete, path: "/auth/signing"}).status)
	require.Equal(t, http.StatusUnauthorized, c.do(call{method: http.MethodGet, path: "/v1/webhooks"}).status, "it verifies nothing any more")
	require.Equal(t, http.StatusOK, next.do(call{method: http.MethodGet, path: "/v1/webhooks"}).status)

	// The first upload proves that its sender has the key, if it is signed.
	fresh := &client{t: t, url: r.url, alg: httpsig.Ed25519, key: generate(t, httpsig.Ed25519), keyID: "mine"}
	fresh.account, fresh.bearer = r.newAccount(t, "manage", "read")
	require.Equal(t, http.StatusUnauthorized, fresh.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, second)}).status)
	require.Equal(t, http.StatusBadRequest, fresh.do(call{method: http.MethodPut, path: "/auth/signing", body: `{"publicKey":"x"}`}).status)
	require.Equal(t, http.StatusOK, fresh.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, fresh.key), unsigned: true}).status)

	reader := *c
	_, reader.bearer = r.newAccount(t, "read")
	require.Equal(t, http.StatusUnauthorized, reader.do(call{method: http.MethodPut, path: "/auth/signing", body: uploadOf(t, second), unsigned: true}).status)
}

func TestTheKeysThatVerifyDeliveriesArePublished(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	c, other := newClient(t, r, httpsig.ECDSAP384), newClient(t, r, httpsig.ECDSAP384)
	var mine, alias, theirs struct{ ID, PublicKey string }
	c.do(call{method: http.MethodGet, path: "/v1/webhooks/key"}).into(t, &mine)
	c.do(call{method: http.MethodGet, path: "/v1/webhooks/verification-key"}).into(t, &alias)
	other.do(call{method: http.MethodGet, path: "/v1/webhooks/key"}).into(t, &theirs)
	require.Equal(t, mine, alias)
	require.NotEqual(t, mine.ID, theirs.ID)
	pub, alg, err := httpsig.ParsePublicKey(mine.PublicKey)
	require.NoError(t, err)
	require.Equal(t, httpsig.ECDSAP384, alg)
	id, err := httpsig.Thumbprint(pub)
	require.NoError(t, err)
	require.Equal(t, mine.ID, id)
	keys := postriderv1.NewSigningKeyServiceClient(r.conn)
	rotated, err := keys.RotateSigningKey(as(t.Context(), c.bearer), &postriderv1.RotateSigningKeyRequest{Algorithm: string(alg)})
	require.NoError(t, err)
	_, err = keys.GetSigningKey(as(t.Context(), c.bearer), &postriderv1.GetSigningKeyRequest{})
	require.NoError(t, err)
	var list []struct{ ID, PublicKey string }
	c.do(call{method: http.MethodGet, path: "/v1/webhooks/keys"}).into(t, &list)
	require.Len(t, list, 2)
	require.Equal(t, rotated.GetSigningKey().GetId(), list[0].ID)
	require.Equal(t, mine.ID, list[1].ID)

	get := func(path, bearer string) answered {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
		require.NoError(t, err)
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return answered{resp.StatusCode, string(raw), resp.Header}
	}
	for path, media := range map[string]string{
		"/.well-known/jwks.json":                         "application/jwk-set+json",
		"/.well-known/http-message-signatures-directory": "application/http-message-signatures-directory+json",
	} {
		own := get(path, c.bearer)
		require.Equal(t, http.StatusOK, own.status, own.body)
		require.Equal(t, "private, max-age=3600", own.header.Get("Cache-Control"))
		public := get(path+"?account="+c.account, "")
		require.Equal(t, own.body, public.body)
		require.Equal(t, "public, max-age=3600", public.header.Get("Cache-Control"))
		require.Equal(t, media, public.header.Get("Content-Type"))
		var set struct{ Keys []map[string]string }
		public.into(t, &set)
		require.Len(t, set.Keys, 3, "both algorithms, and the key that is to come")
		require.Equal(t, "EdDSA", set.Keys[0]["alg"], "newest first")
		for _, k := range set.Keys {
			require.NotEqual(t, theirs.ID, k["kid"])
			require.NotContains(t, k, "d")
		}
		require.Equal(t, http.StatusUnauthorized, get(path, "").status)
		require.Equal(t, http.StatusNotFound, get(path+"?account=acc_01JZZZZZZZZZZZZZZZZZZZZZZZ", "").status)
	}
}

// A request whose client has gone is not lost half-way: it is done again under the same id.
func TestOffBlocksAClientThatGoesAwayMakesOneWebhook(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	c := newClient(t, r, httpsig.Ed25519)
	key := uuid.NewString()
	const body = `{"callbackUrl":"https://example.com/callback"}`
	for wait := time.Millisecond; wait < 40*time.Millisecond; wait *= 3 {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		q := call{method: http.MethodPut, path: "/v1/webhooks", body: body, key: key}
		req, err := http.NewRequestWithContext(ctx, q.method, c.url+offblocksPath+q.path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+c.bearer)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Digest", httpsig.ContentDigest([]byte(body)))
		req.Header.Set("Idempotency-Key", key)
		signer, err := httpsig.NewSigner(c.alg, c.keyID, c.key)
		require.NoError(t, err)
		require.NoError(t, httpsig.Sign(&httpsig.Message{Method: q.method, URL: req.URL.String(), Header: req.Header}, &httpsig.Params{
			Components: []string{"@method", "@target-uri", "idempotency-key", "content-type", "content-digest"}, Created: time.Now(),
		}, signer))
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
		cancel()
	}
	var last answered
	require.Eventually(t, func() bool {
		last = c.do(call{method: http.MethodPut, path: "/v1/webhooks", body: body, key: key})
		return last.status == http.StatusOK
	}, 20*time.Second, 50*time.Millisecond, "last answer: %v", &last)
	list, err := postriderv1.NewWebhookServiceClient(r.conn).ListWebhooks(as(t.Context(), c.bearer), &postriderv1.ListWebhooksRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetWebhooks(), 1)
}
