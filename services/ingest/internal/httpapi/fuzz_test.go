package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// sound checks what must hold of every event that was read, whatever stood in the request.
func sound(t *testing.T, in *incoming) {
	t.Helper()
	if in.err() != nil {
		return
	}
	for _, s := range []string{in.event.GetId(), in.event.GetType(), in.event.GetSource(), in.event.GetOrderingKey(), in.key, in.account} {
		require.True(t, utf8.ValidString(s), "%q", s)
	}
	for _, m := range []map[string]string{in.event.GetLabels(), in.event.GetExtensions()} {
		for k, v := range m {
			require.True(t, utf8.ValidString(k) && utf8.ValidString(v), "%q: %q", k, v)
		}
	}
}

// verbatim checks that JSON data stand in the body as they are.
func verbatim(t *testing.T, body string, in *incoming, encoded bool) {
	t.Helper()
	if in.err() == nil && !encoded && dataIsJSON(in.event.GetContentType()) {
		require.True(t, json.Valid(in.event.GetData()), "%q", in.event.GetData())
		require.Contains(t, body, string(in.event.GetData()))
	}
}

func onlyFaults(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		_, ok := fault.As(err)
		require.True(t, ok, "%v", err)
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{
		`{"type":"a","data":{ "n" : 9007199254740993 , "s":"<&>"}}`, `{"type":"a","data":"x","content_type":"text/plain"}`,
		`{"type":"a","data_base64":"AA=="}`, `{"time":"2026-01-02T15:04:05Z","labels":{"a":"b"}}`, `[]`, ``, `{"a":1,"a":2}`, "{\"type\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		in, err := parseEnvelope([]byte(body))
		onlyFaults(t, err)
		if err != nil {
			return
		}
		require.True(t, json.Valid([]byte(body)))
		sound(t, in)
		verbatim(t, body, in, strings.Contains(body, "ase64"))
	})
}

func FuzzStructuredCloudEvent(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"s","type":"a","data":{ "n" : 1.0 }}`, `{"specversion":"1.0","id":"1","source":"s","type":"a","x":true,"y":-1}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"a","datacontenttype":"text/xml","data":"<a/>"}`, `{}`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		in, err := parseStructured([]byte(body))
		onlyFaults(t, err)
		if err != nil {
			return
		}
		sound(t, in)
		if len(in.event.GetData()) > 0 {
			verbatim(t, body, in, strings.Contains(body, "ase64"))
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(`[{"type":"a","data":1},{}]`)
	f.Add(`[[[`)
	f.Fuzz(func(t *testing.T, body string) {
		all, err := parseBatch([]byte(body), 100, parseEnvelope)
		onlyFaults(t, err)
		for _, in := range all {
			sound(t, in)
		}
	})
}

func FuzzCloudEventHeader(f *testing.F) {
	for _, seed := range []string{"plain", "Euro%20%E2%82%AC", `"quoted \"x\""`, "%", "%ff", `"`} {
		f.Add("subject", seed)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		got, err := decodeHeader(value)
		if err == nil {
			require.True(t, utf8.ValidString(got))
			if !strings.ContainsAny(value, `%"`) {
				require.Equal(t, value, got)
			}
			again, err := decodeHeader(encodeHeader(got))
			require.NoError(t, err)
			require.Equal(t, got, again)
		}
		header := http.Header{"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"s"}, http.CanonicalHeaderKey("ce-" + name): {value}}
		sound(t, parseBinary(header, nil))
	})
}

// encodeHeader is the sender's half of the binding's rule for header values.
func encodeHeader(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c <= '~' && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		}
	}
	return b.String()
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, seed := range []string{"bare", `"quoted"`, `"a\"b"`, `"`, "", ` "x";a=1`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, rule := idempotencyKey(http.Header{"Idempotency-Key": {value}})
		require.NotEqual(t, key == "", rule == "", "a key or a rule, never both or none")
		if key == "" {
			return
		}
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		if strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
			return // cannot be quoted; admission refuses it
		}
		again, rule := idempotencyKey(http.Header{"Idempotency-Key": {quoted}})
		require.Empty(t, rule)
		require.Equal(t, key, again)
	})
}

func BenchmarkEnvelope(b *testing.B) {
	body := []byte(`{"type":"release.live","idempotency_key":"8e03978e","data":{"text":"` + strings.Repeat("x", 1000) + `"}}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		in, err := parseEnvelope(body)
		if err != nil || in.err() != nil || in.event == (*postriderv1.EventInput)(nil) {
			b.Fatal(err, in.err())
		}
	}
}
