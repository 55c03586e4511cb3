package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	structured = "application/cloudevents+json"
	batched    = "application/cloudevents-batch+json"
)

func TestEveryFormOfAnEvent(t *testing.T) {
	t.Parallel()
	at := timestamppb.Timestamp{Seconds: 1767366245, Nanos: 5e8}
	full := &postriderv1.EventInput{
		Id: "1", Source: "//shop", Type: "release.live", Time: &at, Labels: map[string]string{"label": "x"},
		ContentType: "application/json", Data: []byte(`{ "a" : 1 }`), OrderingKey: "o",
		DeliverAt: &timestamppb.Timestamp{Seconds: 1767366246}, Extensions: map[string]string{"subject": "s"},
	}
	binary := []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "//shop", "Ce-Type", "release.live"}
	tests := map[string]struct {
		body   string
		header []string
		want   *postriderv1.EventInput
	}{
		"the smallest envelope": {
			`{"type":"a","data":null}`, nil, &postriderv1.EventInput{Type: "a", Data: []byte("null")},
		},
		"an envelope with everything": {
			`{"id":"1","source":"//shop","type":"release.live","time":"2026-01-02T15:04:05.5Z","labels":{"label":"x"},` +
				`"content_type":"application/json","data":{ "a" : 1 },"ordering_key":"o","deliver_at":"2026-01-02T16:04:06+01:00",` +
				`"extensions":{"subject":"s"}}`,
			[]string{"Content-Type", "application/json; charset=UTF-8"},
			full,
		},
		"an envelope in camel case": {
			`{"id":"1","source":"//shop","type":"release.live","time":"2026-01-02T15:04:05.5Z","labels":{"label":"x"},` +
				`"contentType":"application/json","data":{ "a" : 1 },"orderingKey":"o","deliverAt":"2026-01-02T16:04:06+01:00",` +
				`"extensions":{"subject":"s"}}`,
			nil, full,
		},
		"members that are null are absent": {
			`{"type":"a","data":1,"id":null,"time":null,"labels":null,"data_base64":null}`, nil,
			&postriderv1.EventInput{Type: "a", Data: []byte("1")},
		},
		"data in base64": {
			`{"type":"a","content_type":"image/png","data_base64":"iVBORw=="}`, nil,
			&postriderv1.EventInput{Type: "a", ContentType: "image/png", Data: []byte("\x89PNG")},
		},
		"data in URL-safe base64 without padding": {
			`{"type":"a","content_type":"image/png","dataBase64":"_-8"}`, nil,
			&postriderv1.EventInput{Type: "a", ContentType: "image/png", Data: []byte("\xff\xef")},
		},
		"text stands in a string": {
			`{"type":"a","content_type":"text/plain","data":"line\nline ü \ud83c\udfb5"}`, nil,
			&postriderv1.EventInput{Type: "a", ContentType: "text/plain", Data: []byte("line\nline ü 🎵")},
		},
		"a CloudEvent in binary mode": {
			"{\"a\":1}\n", append([]string{
				"Content-Type", "application/json; x=y", "Ce-Time", "2026-01-02T15:04:05.5Z", "Ce-Subject", "s",
				"Ce-Sequence", "42", "Ce-Dataschema", "//schema",
			}, binary...), &postriderv1.EventInput{
				Id: "1", Source: "//shop", Type: "release.live", Time: &at, ContentType: "application/json; x=y", Data: []byte("{\"a\":1}\n"),
				Extensions: map[string]string{"subject": "s", "sequence": "42", "dataschema": "//schema"},
			},
		},
		"a CloudEvent in binary mode without data": {
			"", binary, &postriderv1.EventInput{Id: "1", Source: "//shop", Type: "release.live", ContentType: "application/octet-stream"},
		},
		"bytes in binary mode": {
			"\x00\xff", append([]string{"Content-Type", "application/octet-stream"}, binary...),
			&postriderv1.EventInput{Id: "1", Source: "//shop", Type: "release.live", ContentType: "application/octet-stream", Data: []byte("\x00\xff")},
		},
		"a CloudEvent in structured mode": {
			`{"specversion":"1.0","id":"1","source":"//shop","type":"release.live","time":"2026-01-02T15:04:05.5Z","subject":"s",` +
				`"datacontenttype":"application/json","flag":true,"number":-7,"gone":null,"data":{ "a" : 9007199254740993, "b":"<&>" }}`,
			[]string{"Content-Type", structured + "; charset=utf-8"},
			&postriderv1.EventInput{
				Id: "1", Source: "//shop", Type: "release.live", Time: &at, ContentType: "application/json",
				Data:       []byte(`{ "a" : 9007199254740993, "b":"<&>" }`),
				Extensions: map[string]string{"subject": "s", "flag": "true", "number": "-7"},
			},
		},
		"a structured CloudEvent with text": {
			`{"specversion":"1.0","id":"1","source":"s","type":"a","datacontenttype":"text/xml","data":"<much wow=\"xml\"/>"}`,
			[]string{"Content-Type", structured},
			&postriderv1.EventInput{Id: "1", Source: "s", Type: "a", ContentType: "text/xml", Data: []byte(`<much wow="xml"/>`)},
		},
		"a structured CloudEvent with bytes": {
			`{"specversion":"1.0","id":"1","source":"s","type":"a","datacontenttype":"image/png","data_base64":"iVBORw=="}`,
			[]string{"Content-Type", structured},
			&postriderv1.EventInput{Id: "1", Source: "s", Type: "a", ContentType: "image/png", Data: []byte("\x89PNG")},
		},
		"a structured CloudEvent without data": {
			`{"specversion":"1.0","id":"1","source":"s","type":"a"}`,
			[]string{"Content-Type", structured},
			&postriderv1.EventInput{Id: "1", Source: "s", Type: "a", ContentType: "application/octet-stream"},
		},
		"a structured CloudEvent without a type of data": {
			`{"specversion":"1.0","id":"1","source":"s","type":"a","data":"text"}`,
			[]string{"Content-Type", structured},
			&postriderv1.EventInput{Id: "1", Source: "s", Type: "a", Data: []byte(`"text"`)},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w := b.post(t, tt.body, tt.header...)
			require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
			got := b.taken(t)
			require.Empty(t, got.FieldPrefix)
			require.Equal(t, acc, got.Account)
			require.True(t, proto.Equal(tt.want, got.Event), "want %v\n got %v", tt.want, got.Event)
		})
	}
}

func TestTheAnswerIsTheReceipt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.post(t, `{"type":"a","data":1}`, "X-Request-Id", "req-1")
	require.Equal(t, http.StatusAccepted, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, "/v1/events/"+event1, w.Header().Get("Location"))
	require.Equal(t, "req-1", w.Header().Get("X-Request-Id"))
	require.Empty(t, w.Header().Get("Idempotency-Replayed"))
	require.JSONEq(t, `{"receipt":{"event_id":"`+event1+`","sequence":"1","duplicate":false,"accept_time":"1970-01-01T00:00:01Z",
		"dedup_window":"DEDUP_WINDOW_FULL","warnings":[]}}`, w.Body.String())
	w = b.post(t, `{"type":"duplicate","data":1}`)
	require.Equal(t, "true", w.Header().Get("Idempotency-Replayed"))
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	const body = `{"type":"a","data":1}`
	t.Run("bare and quoted are the same key", func(t *testing.T) {
		t.Parallel()
		for _, header := range []string{"8e03978e", `"8e03978e"`, ` "8e03978e" `, `"8e03978e";p=1`} {
			b := setup(t)
			require.Equal(t, http.StatusAccepted, b.post(t, body, "Idempotency-Key", header).Code)
			require.Equal(t, "8e03978e", b.taken(t).IdempotencyKey)
		}
	})
	t.Run("escapes are undone", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.post(t, body, "Idempotency-Key", `"a\"b\\c"`)
		require.Equal(t, `a"b\c`, b.taken(t).IdempotencyKey)
	})
	t.Run("in the envelope", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"idempotency_key", "idempotencyKey"} {
			b := setup(t)
			b.post(t, `{"type":"a","data":1,"`+name+`":"k"}`, "Idempotency-Key", `"k"`)
			require.Equal(t, "k", b.taken(t).IdempotencyKey)
		}
	})
	t.Run("for a CloudEvent", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		b.post(t, `{"specversion":"1.0","id":"1","source":"s","type":"a"}`, "Content-Type", structured, "Idempotency-Key", "k")
		require.Equal(t, "k", b.taken(t).IdempotencyKey)
	})
	broken := map[string][]string{
		"empty":                    {"Idempotency-Key", ""},
		"an empty string":          {"Idempotency-Key", `""`},
		"not closed":               {"Idempotency-Key", `"a`},
		"something behind":         {"Idempotency-Key", `"a"b`},
		"an escape of nothing":     {"Idempotency-Key", `"a\`},
		"an escape of another":     {"Idempotency-Key", `"a\n"`},
		"not ASCII":                {"Idempotency-Key", `"ä"`},
		"twice":                    {"Idempotency-Key", "a", "Idempotency-Key", "a"},
		"another than in the body": {"Idempotency-Key", "other"},
	}
	for name, header := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := problemOf(t, b.post(t, `{"type":"a","data":1,"idempotency_key":"k"}`, header...), http.StatusBadRequest, "INVALID_ARGUMENT")
			require.Equal(t, "#/idempotency_key", p.Errors[0].Pointer)
		})
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	const envelope = `{"type":"a","data":1}`
	tests := map[string]struct {
		body   string
		header []string
		status int
		reason string
		detail string
	}{
		"no JSON":                     {`{"type":`, nil, 400, ReasonMalformed, "ends too early"},
		"broken JSON":                 {`{"type":}`, nil, 400, ReasonMalformed, "after byte 8"},
		"nothing":                     {``, nil, 400, ReasonMalformed, "ends too early"},
		"no object":                   {`"a"`, nil, 400, ReasonMalformed, "object"},
		"something behind":            {envelope + `{}`, nil, 400, ReasonMalformed, "after"},
		"a member twice":              {`{"type":"a","type":"b","data":1}`, nil, 400, ReasonMalformed, `"type" comes twice`},
		"a form":                      {"type=a", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, ReasonMediaType, "application/json"},
		"another charset":             {envelope, []string{"Content-Type", "application/json; charset=latin1"}, 415, ReasonMediaType, "utf-8"},
		"a broken content type":       {envelope, []string{"Content-Type", "a/b/c;;"}, 415, ReasonMediaType, "content type"},
		"compressed":                  {envelope, []string{"Content-Encoding", "gzip"}, 415, ReasonMediaType, "compressed"},
		"CloudEvents as protobuf":     {envelope, []string{"Content-Type", "application/cloudevents+protobuf"}, 415, ReasonMediaType, "binary mode"},
		"too large":                   {`{"type":"a","data":"` + strings.Repeat("x", 200<<10) + `"}`, nil, 413, ReasonTooLarge, "at most"},
		"too large in binary mode":    {strings.Repeat("x", 1<<10+1), []string{"Ce-Specversion", "1.0"}, 413, ReasonTooLarge, "1024 bytes"},
		"too large a batch":           {"[" + strings.Repeat(" ", 1<<20) + "]", nil, 413, ReasonTooLarge, "1048576 bytes"},
		"too many in a batch":         {"[{},{},{},{}]", nil, 400, "INVALID_ARGUMENT", "at most 3"},
		"a batch that is no array":    {"{}", []string{"Content-Type", batched}, 400, ReasonMalformed, "array"},
		"a batch that does not end":   {`[{"type":"a"}`, nil, 400, ReasonMalformed, "ends too early"},
		"a batch with one key":        {"[]", []string{"Idempotency-Key", "k"}, 400, "INVALID_ARGUMENT", "each event"},
		"a batch and something after": {"[] []", nil, 400, ReasonMalformed, "after"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := problemOf(t, b.post(t, tt.body, tt.header...), tt.status, tt.reason)
			require.Contains(t, p.Detail, tt.detail)
			require.NotEmpty(t, p.RequestID)
			require.Empty(t, b.ledger.took)
		})
	}
}

func TestFieldsThatBreakARuleAreNamed(t *testing.T) {
	t.Parallel()
	ce := []string{"Content-Type", structured}
	const ceStart = `{"specversion":"1.0","id":"1","source":"s","type":"a",`
	tests := map[string]struct {
		body    string
		header  []string
		pointer string
		rule    string
	}{
		"a member that is none":           {`{"type":"a","data":1,"typ":"b"}`, nil, "#/typ", "not a member"},
		"no data":                         {`{"type":"a"}`, nil, "#/data", "required"},
		"data twice":                      {`{"type":"a","data":1,"data_base64":"AA=="}`, nil, "#/data_base64", "beside data"},
		"a type that is no string":        {`{"type":1,"data":1}`, nil, "#/type", "string"},
		"a string that is not UTF-8":      {"{\"type\":\"\xff\",\"data\":1}", nil, "#/type", "UTF-8"},
		"a time that is none":             {`{"type":"a","data":1,"time":"yesterday"}`, nil, "#/time", "RFC 3339"},
		"a time that is a number":         {`{"type":"a","data":1,"deliver_at":5}`, nil, "#/deliver_at", "string"},
		"labels that are no strings":      {`{"type":"a","data":1,"labels":{"a":1}}`, nil, "#/labels", "object of strings"},
		"labels that are not UTF-8":       {"{\"type\":\"a\",\"data\":1,\"labels\":{\"a\":\"\xff\"}}", nil, "#/labels", "UTF-8"},
		"base64 that is none":             {`{"type":"a","data_base64":"***"}`, nil, "#/data_base64", "base64"},
		"base64 that is no string":        {`{"type":"a","data_base64":1}`, nil, "#/data_base64", "string"},
		"text that is no string":          {`{"type":"a","content_type":"text/plain","data":1}`, nil, "#/data", "content_type is not JSON"},
		"no specversion":                  {`{"id":"1","source":"s","type":"a"}`, ce, "#/specversion", "required"},
		"another specversion":             {`{"specversion":"0.3","id":"1","source":"s","type":"a"}`, ce, "#/specversion", "1.0"},
		"no id":                           {`{"specversion":"1.0","source":"s","type":"a"}`, ce, "#/id", "required"},
		"no source":                       {`{"specversion":"1.0","id":"1","type":"a"}`, ce, "#/source", "required"},
		"an attribute that is an object":  {ceStart + `"x":{}}`, ce, "#/x", "string"},
		"an attribute that is a fraction": {ceStart + `"x":1.5}`, ce, "#/x", "integer"},
		"an attribute beyond 32 bits":     {ceStart + `"x":2147483648}`, ce, "#/x", "integer"},
		"structured text as a number":     {ceStart + `"datacontenttype":"text/plain","data":1}`, ce, "#/data", "datacontenttype"},
		"a header with a bare percent":    {"", []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Subject", "100%"}, "#/ce-subject", "percent-encoded"},
		"a header that is not UTF-8":      {"", []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Subject", "%FF"}, "#/ce-subject", "UTF-8"},
		"a header twice":                  {"", []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-X", "1", "Ce-X", "2"}, "#/ce-x", "once"},
		"a header time that is none":      {"", []string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "s", "Ce-Time", "now"}, "#/time", "RFC 3339"},
		"a rule of admission":             {`{"type":"refused","data":1}`, nil, "#/type", "another"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p := problemOf(t, b.post(t, tt.body, tt.header...), http.StatusBadRequest, "INVALID_ARGUMENT")
			require.Len(t, p.Errors, 1)
			require.Equal(t, tt.pointer, p.Errors[0].Pointer)
			require.Contains(t, p.Errors[0].Detail, tt.rule)
			require.Empty(t, b.ledger.took)
		})
	}
}

func TestHeadersAreDecodedOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"plain":                           "plain",
		"Euro%20%E2%82%AC%20%F0%9F%98%80": "Euro € 😀",
		"50%25":                           "50%",
		"%2525":                           "%25",
		"lower%c3%a4":                     "lowerä",
		`"quoted \"and\" %20"`:            `quoted "and"  `,
		"a+b":                             "a+b",
		"":                                "",
	}
	for in, want := range tests {
		got, err := decodeHeader(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"%", "%2", "%GG", `"open`, `"a"b`, `"\`, "%C3%28"} {
		_, err := decodeHeader(in)
		require.Error(t, err, in)
	}
}

func TestABatchHasAVerdictForEach(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ contentType, body string }{
		"envelopes":   {"application/json", ` [{"type":"a","data":1,"idempotency_key":"k"},{"type":"refused","data":1},7]`},
		"CloudEvents": {batched, `[{"specversion":"1.0","id":"1","source":"s","type":"a","data":1},{"specversion":"1.0","id":"2","source":"s","type":"refused"},7]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w := b.post(t, tt.body, "Content-Type", tt.contentType)
			require.Equal(t, http.StatusMultiStatus, w.Code)
			var got struct {
				Verdicts []struct {
					Receipt *struct {
						EventID string `json:"event_id"`
					}
					Error *struct {
						Code            int
						Reason, Message string
						FieldViolations []struct{ Field, Description string } `json:"field_violations"`
					}
				}
			}
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
			require.Len(t, got.Verdicts, 3)
			require.Equal(t, event1, got.Verdicts[0].Receipt.EventID)
			require.Equal(t, "type", got.Verdicts[1].Error.FieldViolations[0].Field)
			require.Equal(t, 3, got.Verdicts[2].Error.Code)
			require.Contains(t, got.Verdicts[2].Error.Message, "object")
			require.Equal(t, "1", string(b.taken(t).Event.GetData()))
		})
	}
	t.Run("202 only if all are stored", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		require.Equal(t, http.StatusAccepted, b.post(t, `[{"type":"a","data":1},{"type":"b","data":1}]`).Code)
		require.Equal(t, http.StatusMultiStatus, b.post(t, `[{"type":"a","data":1},{}]`).Code)
		require.JSONEq(t, `{"verdicts":[]}`, b.post(t, `[]`).Body.String())
	})
}

func TestWhoMayPublishAndForWhom(t *testing.T) {
	t.Parallel()
	const body = `{"type":"a","data":1}`
	b := setup(t)
	problemOf(t, b.do(t, http.MethodPost, "/v1/events", body), http.StatusUnauthorized, access.ReasonKeyMissing)
	problemOf(t, b.do(t, http.MethodPost, "/v1/events", body, "Authorization", b.read), http.StatusForbidden, access.ReasonScopeMissing)
	problemOf(t, b.do(t, http.MethodPost, "/v1/events?account_id="+string(oth), body, "Authorization", b.publish),
		http.StatusNotFound, access.ReasonAccountNotFound)
	problemOf(t, b.do(t, http.MethodPost, "/v1/events", body, "Authorization", b.admin), http.StatusBadRequest, "INVALID_ARGUMENT")
	require.Empty(t, b.ledger.took)
	require.Equal(t, http.StatusAccepted, b.do(t, http.MethodPost, "/v1/events?account_id="+string(oth), body, "Authorization", b.admin).Code)
	require.Equal(t, oth, b.taken(t).Account)
	require.Equal(t, http.StatusAccepted, b.post(t, `{"type":"a","data":1,"account_id":"`+string(acc)+`"}`).Code)
	require.Equal(t, acc, b.ledger.took[1].Account)
}

func TestTraceparentsAreKept(t *testing.T) {
	t.Parallel()
	const one, two = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00"
	event := `{"specversion":"1.0","id":"1","source":"s","type":"a","traceparent":"` + two + `"}`
	b := setup(t)
	b.post(t, `{"type":"a","data":1}`, "traceparent", one)
	b.post(t, `{"type":"a","data":1}`, "traceparent", "nonsense")
	b.post(t, event, "Content-Type", structured)
	b.post(t, event, "Content-Type", structured, "traceparent", one)
	got := make([]string, 0, 4)
	for _, r := range b.ledger.took {
		got = append(got, r.Traceparent)
	}
	require.Equal(t, []string{one, "", two, one}, got)
	require.Equal(t, two, b.ledger.took[3].Event.GetExtensions()["traceparent"], "the extension itself is the producer's")
}

func TestReadingAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	get := func(target, auth string) *http.Response {
		return b.do(t, http.MethodGet, target, "", "Authorization", auth).Result()
	}
	for key, data := range map[string]string{b.manage: `{"a":1}`, b.admin: `{"a":1}`, b.read: ""} { // read alone shows no payload
		w := b.do(t, http.MethodGet, "/v1/events/"+event1+"?sequence=9&account_id="+string(acc), "", "Authorization", key)
		require.Equal(t, http.StatusOK, w.Code)
		var got struct {
			Event struct {
				ID, Sequence string
				Data         []byte
			}
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, event1, got.Event.ID)
		require.Equal(t, "9", got.Event.Sequence)
		require.Equal(t, data, string(got.Event.Data))
	}

	statuses := map[string]int{
		"/v1/events/" + event1:                                http.StatusOK,
		"/v1/events/evt_01J00000000000000000000009":           http.StatusNotFound,
		"/v1/events/" + event1 + "?account_id=" + string(oth): http.StatusNotFound,
		"/v1/events/nonsense":                                 http.StatusBadRequest,
		"/v1/events/" + event1 + "?sequence=0":                http.StatusBadRequest,
		"/v1/events/" + event1 + "?sequence=x":                http.StatusBadRequest,
		"/v1/others":                                          http.StatusNotFound,
	}
	for target, status := range statuses {
		res := get(target, b.read)
		require.NoError(t, res.Body.Close())
		require.Equal(t, status, res.StatusCode, target)
	}
	problemOf(t, b.do(t, http.MethodGet, "/v1/events/"+event1, "", "Authorization", b.publish), http.StatusForbidden, access.ReasonScopeMissing)
	w := b.do(t, http.MethodDelete, "/v1/events", "", "Authorization", b.read)
	problemOf(t, w, http.StatusMethodNotAllowed, ReasonNoMethod)
	require.Equal(t, "POST", w.Header().Get("Allow"))
	problemOf(t, b.do(t, http.MethodPut, "/v1/events/"+event1, "", "Authorization", b.read), http.StatusMethodNotAllowed, ReasonNoMethod)
}

func TestAnAPIThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	_, err := New(nil, Config{MaxDataBytes: 1, MaxBatch: 1, MaxBatchBytes: 1})
	require.Error(t, err)
	_, err = New(&ledger{}, Config{})
	require.Error(t, err)
}
