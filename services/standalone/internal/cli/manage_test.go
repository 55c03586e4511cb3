package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestAccountsAreMadeAndShown(t *testing.T) {
	t.Parallel()
	s := running(t)
	out := s.ok(t, "accounts", "create", "Radio Nine", "--subdomain", "radionine", "--time-zone", "Australia/Melbourne",
		"--unknown-types", "warn", "--dedup-window", "1h", "--class", "premium", "--allow-http")
	id := regexp.MustCompile(`(?m)^id +(acc_\w+)$`).FindStringSubmatch(out)
	require.NotNil(t, id, out)
	require.Regexp(t, `(?m)^unknown types +warn$`, out)
	require.Regexp(t, `(?m)^dedup window +1h0m0s$`, out)

	v := s.json(t, "accounts", "get", id[1])
	require.Equal(t, "radionine", v["subdomain"])
	require.Equal(t, true, v["allow_http"])
	require.Equal(t, t.Name(), s.json(t, "accounts", "get")["display_name"], "--account is the default")

	table := s.ok(t, "accounts", "list")
	require.Regexp(t, `(?m)^ID +NUMBER +NAME +SUBDOMAIN +CLASS +CREATED$`, table)
	require.Regexp(t, `(?m)^acc_\w+ +2 +Radio Nine +radionine +premium +\d{4}-\d\d-\d\dT`, table)
	require.Len(t, list(t, s.json(t, "accounts", "list"), "accounts"), 2)
	short := s.run(t, "accounts", "list", "--limit", "1")
	require.Equal(t, 2, strings.Count(short.out, "\n"))
	require.Contains(t, short.err, "--limit 0 shows all")

	changed := s.json(t, "accounts", "update", id[1], "--name", "Radio Ten", "--log-retention", "168h", "--disable-failing-after", "24h", "--etag", v["etag"].(string))
	require.Equal(t, "Radio Ten", changed["display_name"])
	require.Equal(t, "604800s", changed["log_retention"])
	require.Equal(t, "radionine", changed["subdomain"], "what is not named stays")
	require.NotContains(t, s.json(t, "accounts", "update", id[1], "--log-retention", "0s"), "log_retention")
	s.fails(t, exitRefused, "ETAG_MISMATCH", "accounts", "update", id[1], "--name", "x", "--etag", v["etag"].(string))
	s.fails(t, exitUsage, "name what is to change", "accounts", "update", id[1])
	s.ok(t, "accounts", "update", id[1], "--name", "Radio Nine")
	out = s.ok(t, "accounts", "update", id[1], "--max-in-flight", "20", "--rate-limit", "2.5")
	require.Regexp(t, `(?m)^max in flight +20$`, out)
	require.Regexp(t, `(?m)^rate limit +2.5/s$`, out)
	require.NotContains(t, s.ok(t, "accounts", "update", id[1], "--rate-limit", "0"), "rate limit")
	s.fails(t, exitRefused, "account.rate_limit: ", "accounts", "update", id[1], "--rate-limit", "0.01")

	s.fails(t, exitRefused, "account.time_zone: ", "accounts", "create", "x", "--time-zone", "Mars/Base")
	s.fails(t, exitRefused, "exists", "accounts", "create", "y", "--subdomain", "radionine")
	s.fails(t, exitUsage, "--unknown-types must be allow, warn, reject", "accounts", "create", "z", "--unknown-types", "eat")
	s.fails(t, exitNotFound, "no account", "accounts", "get", "acc_01HF7YAT00ZZZZZZZZZZZZZZZZ")
	s.with("POSTRIDER_ACCOUNT", "").fails(t, exitUsage, "name the account", "accounts", "get")
}

func TestKeysAreShownOnceAndDoNoMoreThanTheirScopes(t *testing.T) {
	t.Parallel()
	s := running(t)
	made := s.json(t, "keys", "create", "order service", "--scope", "publish", "--expires", "+1h")
	key := made["api_key"].(map[string]any)
	producer := s.with("POSTRIDER_KEY", made["secret"].(string)).with("POSTRIDER_ACCOUNT", "")
	producer.ok(t, "publish", "order.paid")
	producer.fails(t, exitRefused, "SCOPE_MISSING", "webhooks", "list")
	producer.fails(t, exitRefused, "SCOPE_MISSING", "accounts", "list")

	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte(made["secret"].(string)+"\n"), 0o600))
	producer.with("POSTRIDER_KEY", "").ok(t, "publish", "order.paid", "--key", "file:"+file)

	out := s.ok(t, "keys", "list")
	require.Contains(t, out, "order service")
	require.NotContains(t, out, made["secret"].(string))
	require.Regexp(t, `(?m)^scopes +read,publish$`, s.ok(t, "keys", "update", key["id"].(string), "--scope", "read,publish"))
	require.Regexp(t, `(?m)^scopes +read,publish$`, s.ok(t, "keys", "update", key["id"].(string), "--name", "other"), "what is not named stays")
	s.fails(t, exitUsage, "at least one of the flags", "keys", "update", key["id"].(string))
	require.Equal(t, "deleted "+key["id"].(string)+"\n", s.ok(t, "keys", "delete", key["id"].(string)))
	producer.fails(t, exitRefused, "KEY_INVALID", "publish", "order.paid")
	s.fails(t, exitNotFound, "no key", "keys", "delete", key["id"].(string))

	operator := s.json(t, "keys", "create", "operator", "--admin")
	s.with("POSTRIDER_KEY", operator["secret"].(string)).ok(t, "accounts", "list")
	require.Contains(t, s.ok(t, "keys", "list", "--admin"), "operator")
	s.ok(t, "keys", "delete", "--admin", operator["api_key"].(map[string]any)["id"].(string))

	s.fails(t, exitUsage, "scope", "keys", "create", "x")
	s.fails(t, exitRefused, "scopes: ", "keys", "create", "x", "--scope", "fly")
	s.with("POSTRIDER_ACCOUNT", "").fails(t, exitUsage, "--account or POSTRIDER_ACCOUNT", "keys", "list")
}

func TestAWebhookIsMadeChangedAndDeleted(t *testing.T) {
	t.Parallel()
	s := running(t)
	made := s.json(t, "webhooks", "create", "http://127.0.0.1:1/hook", "--events", "release.*,track.uploaded", "--name", "mine",
		"--filter", "data.total > 100", "--scopes", `{"project_id":[12,13]}`, "--header", "X-Tenant: nine", "--attempt-timeout", "5s",
		"--retry-delays", "1m,5m", "--retry-jitter", "0.2", "--retry-basis", "first_attempt", "--max-in-flight", "3",
		"--rate-limit", "2.5", "--trace-context=false", "--annotation", "team=billing", "--disable-failing-after", "24h",
		"--ordering", "key")
	require.Regexp(t, `^whsec_`, made["secret"])
	w := made["webhook"].(map[string]any)
	id := w["id"].(string)
	require.Equal(t, []any{"release.*", "track.uploaded"}, w["event_types"])
	require.Equal(t, map[string]any{"X-Tenant": "nine"}, w["headers"])
	require.Equal(t, map[string]any{"delays": []any{"60s", "300s"}, "jitter": 0.2, "delay_basis": "DELAY_BASIS_FIRST_ATTEMPT"}, w["retry_schedule"])
	require.Equal(t, false, w["trace_context"])
	require.Equal(t, "key", w["ordering"])

	out := s.ok(t, "webhooks", "get", id)
	for _, line := range []string{`url +POST http://127.0.0.1:1/hook`, `state +active`, `scopes +{"project_id":\[12,13\]}`, `retry delays +1m0s,5m0s`, `rate limit +2.5 a second`, `ordering +key`} {
		require.Regexp(t, `(?m)^`+line+`$`, out)
	}
	require.NotContains(t, out, made["secret"].(string))
	require.Regexp(t, `(?m)^`+id+` +active +standard +release.\*,track.uploaded +http://127.0.0.1:1/hook$`, s.ok(t, "webhooks", "list"))

	v := s.json(t, "webhooks", "update", id, "--events", "*", "--filter", "", "--scopes", "", "--rate-limit", "0", "--retry-delays", "", "--url", "http://127.0.0.1:2/", "--etag", w["etag"].(string))
	require.Equal(t, []any{"*"}, v["event_types"])
	require.Equal(t, "http://127.0.0.1:2/", v["url"])
	require.Empty(t, v["filter"])
	require.NotContains(t, v, "rate_limit")
	require.NotContains(t, v, "retry_schedule")
	require.Equal(t, map[string]any{"X-Tenant": "nine"}, v["headers"], "what is not named stays")
	require.Equal(t, "strict", s.json(t, "webhooks", "update", id, "--ordering", "strict")["ordering"])
	s.fails(t, exitRefused, "webhook.ordering", "webhooks", "update", id, "--ordering", "fifo")
	s.fails(t, exitRefused, "ETAG_MISMATCH", "webhooks", "update", id, "--name", "x", "--etag", w["etag"].(string))
	s.fails(t, exitUsage, "name what is to change", "webhooks", "update", id)

	require.Equal(t, "86400s", w["disable_failing_after"])
	require.NotContains(t, s.json(t, "webhooks", "update", id, "--disable-failing-after", "0s"), "disable_failing_after")
	require.Regexp(t, `(?m)^held +0`, s.ok(t, "webhooks", "backlog", id))
	s.fails(t, exitNotFound, "no webhook wh_none", "webhooks", "backlog", "wh_none")
	require.Regexp(t, `(?m)^breaker +closed$`, s.ok(t, "webhooks", "health", id))
	s.fails(t, exitNotFound, "no webhook wh_none", "webhooks", "health", "wh_none")

	require.Regexp(t, `(?m)^state +paused \(operator\)$`, s.ok(t, "webhooks", "pause", id))
	require.Regexp(t, `(?m)^state +active$`, s.ok(t, "webhooks", "resume", id))
	rotated := s.json(t, "webhooks", "rotate-secret", id, "--overlap", "1h")
	require.NotEqual(t, made["secret"], rotated["secret"])
	require.Len(t, rotated["webhook"].(map[string]any)["secrets"], 2)

	require.Equal(t, "deleted "+id+"; 0 waiting deliveries cancelled\n", s.ok(t, "webhooks", "delete", id))
	s.fails(t, exitNotFound, "no webhook "+id, "webhooks", "get", id)
}

func TestMistakesInAWebhookNameFieldAndRule(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := s.fails(t, exitRefused, "webhook.url: must begin with", "webhooks", "create", "ftp://x", "--events", "a b")
	require.Contains(t, r.err, "webhook.event_types[0]: must be")
	require.Equal(t, 1, strings.Count(r.err, "webhook.url"), "each once")
	s.fails(t, exitRefused, "webhook.filter: ", "webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--filter", "data.")
	for words, args := range map[string][]string{
		`required flag(s) "events" not set`:          {"webhooks", "create", "http://127.0.0.1:1/"},
		"--scopes":                                   {"webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--scopes", "[1]"},
		`--header: "X" is not name:value`:            {"webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--header", "X"},
		`--retry-delays: "soon" is no`:               {"webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--retry-delays", "soon"},
		"--retry-jitter goes with --retry-delays":    {"webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--retry-jitter", "1"},
		"--retry-basis must be":                      {"webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--retry-delays", "1m", "--retry-basis", "moon"},
		"accepts 1 arg(s), received 0":               {"webhooks", "create", "--events", "*"},
		"--secret: open ":                            {"webhooks", "create", "http://127.0.0.1:1/", "--events", "*", "--secret", "file:/nowhere"},
		`unknown command "creat" for "postrider web`: {"webhooks", "creat"},
		"unknown flag: --evnts":                      {"webhooks", "create", "http://127.0.0.1:1/", "--evnts", "*"},
	} {
		s.fails(t, exitUsage, words, args...)
	}
}

func TestAWebhookIsTestedAndItsMatchesExplained(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := receivertest.New(t).Respond(200, 503)
	id := s.json(t, "webhooks", "create", r.URL, "--events", "order.*", "--filter", "data.total > 100")["webhook"].(map[string]any)["id"].(string)

	require.Regexp(t, `(?m)^success +true$`, s.ok(t, "webhooks", "test", id, "--type", "order.paid", "--data", `{"total":1}`))
	require.JSONEq(t, `{"total":1}`, string(r.Next(t).Body))
	failed := s.fails(t, exitFailure, "the attempt failed", "webhooks", "test", id)
	require.Regexp(t, `(?m)^status +503$`, failed.out)
	s.fails(t, exitUsage, "needs --type", "webhooks", "test", id, "--data", "{}")

	require.Regexp(t, `(?m)^`+id+` +yes +active +-$`, s.ok(t, "webhooks", "explain", "order.paid", "--data", `{"total":101}`))
	require.Regexp(t, `(?m)^`+id+` +no +active +filter`, s.ok(t, "webhooks", "explain", "order.paid", "--data", `{"total":1}`))
	require.Regexp(t, `(?m)^`+id+` +no +active +event_type`, s.ok(t, "webhooks", "explain", "release.live"))
}

func TestReceiversAreAskedForTheirVerdictAndConsent(t *testing.T) {
	t.Parallel()
	s := running(t)
	var token string
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Token string `json:"token"`
		}
		switch {
		case r.Method == http.MethodOptions && r.URL.Path == "/consents":
			w.Header().Set("WebHook-Allowed-Origin", r.Header.Get("WebHook-Request-Origin"))
			w.Header().Set("WebHook-Allowed-Rate", r.Header.Get("WebHook-Request-Rate"))
		case r.Method == http.MethodPost && (json.NewDecoder(r.Body).Decode(&body) != nil || body.Token != token):
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(receiver.Close)
	made := s.json(t, "webhooks", "create", receiver.URL+"/labels", "--events", "*", "--profile", "labelst", "--options", `{"require_verification":true}`)
	id := made["webhook"].(map[string]any)["id"].(string)
	r := s.fails(t, exitFailure, "did not tell its token from another", "webhooks", "verify", id)
	require.Regexp(t, `(?m)^state +disabled \(unverified\)$`, r.out)
	require.Regexp(t, `(?m)^verified +no: its own token was answered with 401 in place of 200, `, r.out)
	token = made["secret"].(string)
	out := s.ok(t, "webhooks", "verify", id)
	require.Regexp(t, `(?m)^state +active$`, out)
	require.Regexp(t, `(?m)^verified +yes, `, out)

	made = s.json(t, "webhooks", "create", receiver.URL+"/silent", "--events", "*", "--profile", "cloudevents", "--options", `{"handshake":"required"}`)
	id = made["webhook"].(map[string]any)["id"].(string)
	r = s.fails(t, exitFailure, "did not consent", "webhooks", "handshake", id)
	require.Regexp(t, `(?m)^state +disabled \(no_consent\)$`, r.out)
	require.Regexp(t, `(?m)^state +active$`, s.ok(t, "webhooks", "update", id, "--url", receiver.URL+"/consents"))
	require.Regexp(t, `(?m)^allowed rate +120 a minute$`, s.ok(t, "webhooks", "handshake", id, "--rate", "120"))
	s.fails(t, exitUsage, "--options", "webhooks", "update", id, "--options", "[]")
}

func TestSchemasAreGivenChangedAndImported(t *testing.T) {
	t.Parallel()
	s := running(t)
	s.ok(t, "event-types", "create", "order.paid", "--schema", `{"type":"object"}`, "--schema-policy", "reject")
	require.Contains(t, s.ok(t, "event-types", "show", "order.paid"), `version 1, reject: {"type":"object"}`)
	s.fails(t, exitRefused, "event.data: must be object", "publish", "order.paid", "--data", "[]")
	s.ok(t, "event-types", "update", "order.paid", "--schema", "{}", "--schema-policy", "warn")
	require.Contains(t, s.ok(t, "event-types", "show", "order.paid"), "version 2, warn: {}")
	s.ok(t, "publish", "order.paid", "--data", "[]")
	s.fails(t, exitRefused, "/type: null, boolean, number, string, array is not taken any more", "event-types", "update", "order.paid", "--schema", `{"type":"object"}`)
	s.ok(t, "event-types", "update", "order.paid", "--schema", `{"type":"object"}`, "--allow-incompatible-schema")
	s.ok(t, "event-types", "update", "order.paid", "--schema", "", "--schema-policy", "off")
	require.NotContains(t, s.ok(t, "event-types", "show", "order.paid"), "schema")
	s.fails(t, exitUsage, "--schema-policy must be one of", "event-types", "update", "order.paid", "--schema-policy", "hope")
	s.fails(t, exitUsage, "nothing to change", "event-types", "update", "order.paid")
	require.Equal(t, "1 created, 0 updated\n",
		s.reading(`{"event_types":[{"name":"a.b","schema":{"type":"object"},"schema_policy":"warn"}]}`).ok(t, "event-types", "import", "-"))
	require.Contains(t, s.ok(t, "event-types", "show", "a.b"), `version 1, warn: {"type":"object"}`)
}

func TestACatalogueIsImportedListedAndTakenElsewhere(t *testing.T) {
	t.Parallel()
	s := running(t)
	catalogue := filepath.Join("..", "..", "..", "..", "catalogues", "jewelmusic.json")
	require.Equal(t, "16 created, 0 updated\n", s.ok(t, "event-types", "import", catalogue))
	require.Equal(t, "0 created, 16 updated\n", s.ok(t, "event-types", "import", catalogue))
	require.Regexp(t, `(?m)^release.live +Distribution +Release is live on platforms$`, s.ok(t, "event-types", "list"))

	s.ok(t, "event-types", "create", "order.paid", "--group", "Orders", "--description", "paid", "--example", `{"total": 120}`)
	listed := s.ok(t, "event-types", "list", "-o", "json")
	other := s.account(t, "another")
	require.Equal(t, "17 created, 0 updated\n", other.reading(listed).ok(t, "event-types", "import", "-"))
	require.Equal(t, list(t, s.json(t, "event-types", "list"), "event_types")[5]["example"], list(t, other.json(t, "event-types", "list"), "event_types")[5]["example"])
	require.Equal(t, "1 created, 0 updated\n", other.reading(`{"event_types":[{"name":"a.b","example":{"x": 1.0}}]}`).ok(t, "event-types", "import", "-"))

	require.Equal(t, "deleted order.paid\n", s.ok(t, "event-types", "delete", "order.paid"))
	s.fails(t, exitNotFound, "no event type", "event-types", "delete", "order.paid")
	s.reading(`{"event_types":[{"nam":"a"}]}`).fails(t, exitUsage, "event_types[0]", "event-types", "import", "-")
	s.fails(t, exitUsage, "no such file", "event-types", "import", "/nowhere.json")
	s.reading(`{"event_types":[{"name":"a b"}]}`).fails(t, exitRefused, "event_types[0].name: must be", "event-types", "import", "-")
}
