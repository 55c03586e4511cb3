package admission

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestEveryBrokenRuleNamesItsField(t *testing.T) {
	t.Parallel()
	cfg := patient()
	cfg.MaxDataBytes = 100
	b := setup(t, cfg)
	a := b.start(t)
	ev := withEvent
	tests := map[string]struct {
		change func(*Request)
		field  string
		rule   string
	}{
		"no event":                     {func(r *Request) { r.Event = nil }, "event", "required"},
		"no type":                      {ev(func(e *postriderv1.EventInput) { e.Type = "" }), "event.type", "required"},
		"a type with a space":          {ev(func(e *postriderv1.EventInput) { e.Type = "a b" }), "event.type", "words"},
		"a type with an empty word":    {ev(func(e *postriderv1.EventInput) { e.Type = "a..b" }), "event.type", "words"},
		"a type with a star":           {ev(func(e *postriderv1.EventInput) { e.Type = "a.*" }), "event.type", "words"},
		"a type of Postrider's own":    {ev(func(e *postriderv1.EventInput) { e.Type = "postrider.webhook.failing" }), "event.type", "postrider."},
		"a type that is too long":      {ev(func(e *postriderv1.EventInput) { e.Type = strings.Repeat("a", 129) }), "event.type", "128"},
		"a key with a space":           {withKey("a b"), "idempotency_key", "visible ASCII"},
		"a key that is too long":       {withKey(strings.Repeat("k", 256)), "idempotency_key", "255"},
		"a key that is not ASCII":      {withKey("schlüssel"), "idempotency_key", "visible ASCII"},
		"an id with a newline":         {withID("", "a\nb"), "event.id", "visible ASCII"},
		"an id that is too long":       {withID("", strings.Repeat("i", 256)), "event.id", "255"},
		"a source that is too long":    {withID(strings.Repeat("s", 256), ""), "event.source", "255"},
		"a source with a newline":      {withID("a\r\nb", ""), "event.source", "control"},
		"a source that is not UTF-8":   {withID("\xff", ""), "event.source", "UTF-8"},
		"an ordering key too long":     {ev(func(e *postriderv1.EventInput) { e.OrderingKey = strings.Repeat("o", 256) }), "event.ordering_key", "255"},
		"a time that is none":          {ev(func(e *postriderv1.EventInput) { e.Time = &timestamppb.Timestamp{Nanos: -1} }), "event.time", "year"},
		"a deliver_at that is none":    {ev(func(e *postriderv1.EventInput) { e.DeliverAt = &timestamppb.Timestamp{Seconds: 1 << 50} }), "event.deliver_at", "year"},
		"a deliver_at too far ahead":   {ev(func(e *postriderv1.EventInput) { e.DeliverAt = timestamppb.New(time.Now().Add(31 * 24 * time.Hour)) }), "event.deliver_at", "30 days"},
		"too many labels":              {ev(func(e *postriderv1.EventInput) { e.Labels = many(33) }), "event.labels", "32"},
		"a label without a key":        {ev(func(e *postriderv1.EventInput) { e.Labels = map[string]string{"": "v"} }), "event.labels", "1 to 63"},
		"a label key that is too long": {ev(func(e *postriderv1.EventInput) { e.Labels = map[string]string{strings.Repeat("k", 64): "v"} }), "event.labels", "1 to 63"},
		"a label value too long":       {ev(func(e *postriderv1.EventInput) { e.Labels = map[string]string{"a.b": strings.Repeat("v", 256)} }), `event.labels["a.b"]`, "255"},
		"a label value not UTF-8":      {ev(func(e *postriderv1.EventInput) { e.Labels = map[string]string{"k": "\xc3\x28"} }), `event.labels["k"]`, "UTF-8"},
		"too many extensions":          {ev(func(e *postriderv1.EventInput) { e.Extensions = many(33) }), "event.extensions", "32"},
		"an extension's bad name":      {ev(func(e *postriderv1.EventInput) { e.Extensions = map[string]string{"Not_OK": "v"} }), "event.extensions", "lower-case"},
		"an extension that is a field": {ev(func(e *postriderv1.EventInput) { e.Extensions = map[string]string{"id": "v"} }), `event.extensions["id"]`, "field of its own"},
		"an extension too long": {ev(func(e *postriderv1.EventInput) {
			e.Extensions = map[string]string{"subject": strings.Repeat("v", 1025)}
		}), `event.extensions["subject"]`, "1024"},
		"an extension with a control": {ev(func(e *postriderv1.EventInput) { e.Extensions = map[string]string{"subject": "\x00"} }), `event.extensions["subject"]`, "control"},
		"data that is too large":      {withData(`"` + strings.Repeat("x", 99) + `"`), "event.data", "100 bytes"},
		"data that is not JSON":       {withData(`{"a":`), "event.data", "JSON"},
		"no data, as JSON":            {withData(""), "event.data", "JSON"},
		"two JSON values":             {withData(`1 2`), "event.data", "JSON"},
		"JSON with a byte order mark": {withData("\ufeff{}"), "event.data", "JSON"},
		"JSON of a suffix":            {func(r *Request) { r.Event.ContentType, r.Event.Data = "application/vnd.api+json", []byte("x") }, "event.data", "JSON"},
		"a content type that is none": {ev(func(e *postriderv1.EventInput) { e.ContentType = "json" }), "event.content_type", "media type"},
		"a content type with a break": {ev(func(e *postriderv1.EventInput) { e.ContentType = "text/plain;\r\n a=b" }), "event.content_type", "media type"},
		"a content type too long":     {ev(func(e *postriderv1.EventInput) { e.ContentType = "text/plain; a=" + strings.Repeat("b", 255) }), "event.content_type", "255"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := refused(t, a, one(tt.change), fault.Invalid, "INVALID_ARGUMENT")
			require.Len(t, e.Violations, 1)
			require.Equal(t, tt.field, e.Violations[0].Field)
			require.Contains(t, e.Violations[0].Rule, tt.rule)
		})
	}
	require.Empty(t, b.record.all(), "nothing of this reached a store")
}

func many(n int) map[string]string {
	m := make(map[string]string, n)
	for i := range n {
		m[fmt.Sprintf("k%d", i)] = "v"
	}
	return m
}

func TestAllBrokenRulesAreSaidAtOnce(t *testing.T) {
	t.Parallel()
	a := setup(t, patient()).start(t)
	e := refused(t, a, one(withKey(" "), withData("x"), withEvent(func(e *postriderv1.EventInput) { e.Type = "" })), fault.Invalid, "INVALID_ARGUMENT")
	require.Len(t, e.Violations, 3)
}

func TestDataThatAreTooLongHaveAStatusOfTheirOwn(t *testing.T) {
	t.Parallel()
	a := setup(t, patient()).start(t)
	long := withData(`"` + strings.Repeat("x", 1<<20) + `"`)
	require.Equal(t, http.StatusRequestEntityTooLarge, refused(t, a, one(long), fault.Invalid, "INVALID_ARGUMENT").Status)
	require.Zero(t, refused(t, a, one(long, withKey(" ")), fault.Invalid, "INVALID_ARGUMENT").Status, "something else is wrong too")
}

func TestWhatIsAllowedToItsLimits(t *testing.T) {
	t.Parallel()
	a := setup(t, patient()).start(t)
	accept(t, a, one(withKey(strings.Repeat("~", 255)), withEvent(func(e *postriderv1.EventInput) {
		e.Type = strings.Repeat("a", 128)
		e.Id, e.Source, e.OrderingKey = strings.Repeat("!", 255), strings.Repeat("ß", 127), strings.Repeat(" ", 255)
		e.Labels, e.Extensions = many(32), many(32)
		e.DeliverAt = timestamppb.New(time.Now().Add(30*24*time.Hour - time.Minute))
		e.Data = []byte(`"` + strings.Repeat("x", 1<<20-2) + `"`)
	})))
	accept(t, a, one(withEvent(func(e *postriderv1.EventInput) { e.DeliverAt = timestamppb.New(time.Unix(0, 0)) })))
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	require.NoError(t, Default().Validate())
	tests := map[string]func(*Config){
		"takeover":            func(c *Config) { c.Takeover = c.PublishBudget + margin },
		"window":              func(c *Config) { c.MsgIDWindow = c.Takeover },
		"max-data-bytes":      func(c *Config) { c.MaxDataBytes = 0 },
		"max-in-flight-bytes": func(c *Config) { c.MaxInFlightBytes = 1 },
		"max-delay":           func(c *Config) { c.MaxDelay = 0 },
		"poll":                func(c *Config) { c.PollMin = 0 },
	}
	for name, change := range tests {
		cfg := Default()
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), name)
	}
	_, err := New(Default(), Deps{})
	require.Error(t, err)
}

func TestTheFingerprintTellsEventsApart(t *testing.T) {
	t.Parallel()
	base := func() *postriderv1.EventInput {
		return &postriderv1.EventInput{
			Id: "1", Source: "s", Type: "t", Time: timestamppb.New(time.Unix(1, 0)), Labels: map[string]string{"a": "b", "c": "d"},
			Data: []byte("data"), OrderingKey: "o", DeliverAt: timestamppb.New(time.Unix(2, 0)), Extensions: map[string]string{"x": "y"},
		}
	}
	changes := map[string]func(*postriderv1.EventInput){
		"id":                 func(e *postriderv1.EventInput) { e.Id = "2" },
		"source":             func(e *postriderv1.EventInput) { e.Source = "" },
		"type":               func(e *postriderv1.EventInput) { e.Type = "u" },
		"time":               func(e *postriderv1.EventInput) { e.Time.Nanos = 1 },
		"no time":            func(e *postriderv1.EventInput) { e.Time = nil },
		"label":              func(e *postriderv1.EventInput) { e.Labels["a"] = "B" },
		"labels swapped":     func(e *postriderv1.EventInput) { e.Labels = map[string]string{"a": "d", "c": "b"} },
		"no labels":          func(e *postriderv1.EventInput) { e.Labels = nil },
		"data":               func(e *postriderv1.EventInput) { e.Data = []byte("Data") },
		"ordering key":       func(e *postriderv1.EventInput) { e.OrderingKey = "O" },
		"deliver at":         func(e *postriderv1.EventInput) { e.DeliverAt = nil },
		"extension":          func(e *postriderv1.EventInput) { e.Extensions = nil },
		"moved":              func(e *postriderv1.EventInput) { e.Id, e.Source = "1s", "" },
		"label to extension": func(e *postriderv1.EventInput) { e.Labels, e.Extensions = nil, e.Labels },
	}
	first := fingerprint(base(), DefaultContentType)
	require.Equal(t, first, fingerprint(base(), DefaultContentType))
	require.NotEqual(t, first, fingerprint(base(), "text/plain"))
	for name, change := range changes {
		other := base()
		change(other)
		require.NotEqual(t, first, fingerprint(other, DefaultContentType), name)
	}
	require.Equal(t, "6f32fe5a19ae54fbd37d55b174472641", hex.EncodeToString(first[:]), "it is stored with events: it must not change")
}

func TestTheFingerprintDoesNotDependOnTheOrderOfLabels(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		labels := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "labels")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		copied := make(map[string]string, len(labels))
		maps.Copy(copied, labels)
		require.Equal(t,
			fingerprint(&postriderv1.EventInput{Labels: labels, Data: data}, ""),
			fingerprint(&postriderv1.EventInput{Labels: copied, Data: data}, ""))
	})
}

func TestTraceparents(t *testing.T) {
	t.Parallel()
	const valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tests := map[string]struct{ sent, want string }{
		"valid":                  {valid, valid},
		"with white space":       {" " + valid + "\t", valid},
		"a later version":        {"cc" + valid[2:] + "-what-is-to-come", valid},
		"absent":                 {"", ""},
		"upper case":             {strings.ToUpper(valid), ""},
		"the version ff":         {"ff" + valid[2:], ""},
		"no trace id":            {"00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""},
		"no parent id":           {"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", ""},
		"longer than version 0":  {valid + "-more", ""},
		"a later one, malformed": {"cc" + valid[2:] + "more", ""},
		"too short":              {valid[:54], ""},
		"other separators":       {strings.ReplaceAll(valid, "-", "_"), ""},
	}
	for name, tt := range tests {
		require.Equal(t, tt.want, Traceparent(t.Context(), tt.sent), name)
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Add("")
	f.Fuzz(func(t *testing.T, sent string) {
		got := Traceparent(t.Context(), sent)
		if got != "" {
			require.Len(t, got, traceparentSize)
			require.Equal(t, got, Traceparent(t.Context(), got))
		}
	})
}
