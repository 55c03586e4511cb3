package profile

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
)

const (
	cloudEventsPrefix  = "Ce-"
	cloudEventsVersion = "1.0"
	cloudEventsType    = "application/cloudevents+json"
	headerOrigin       = "Webhook-Request-Origin"
)

// cloudEvents is CloudEvents 1.0 over HTTP: in binary mode the attributes are headers and the body
// is the event's data byte for byte; in structured mode one JSON object holds both. Headers of
// Standard Webhooks sign either. Its webhooks may ask receivers for their consent (HTTP 1.1 Web
// Hooks for Event Delivery); deliveries then say for which origin it was given.
type cloudEvents struct{ standard }

func (cloudEvents) Name() string { return "cloudevents" }

func (p cloudEvents) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	r := rules{schedule: p.Schedule(), sets: prefixed(cloudEventsPrefix), options: []string{optionCloudEventsMode, optionHandshake}}
	return r.validate(w)
}

// attribute is one of an event's context.
type attribute struct{ name, value string }

// attributes are the event's, in the order of the specification; extensions by name.
func attributes(in *Input) []attribute {
	d := in.Delivery
	out := []attribute{
		{"specversion", cloudEventsVersion},
		{"id", cmp.Or(d.GetEventGivenId(), d.GetEventId())},
		{"source", cmp.Or(d.GetEventSource(), "/accounts/"+d.GetAccountId())},
		{"type", d.GetEventType()},
		{"time", d.GetEventTime().AsTime().Format(time.RFC3339Nano)},
	}
	known := []string{"specversion", "id", "source", "type", "time", "datacontenttype", "data", "data_base64"}
	for _, name := range slices.Sorted(maps.Keys(d.GetExtensions())) {
		if !slices.Contains(known, name) {
			out = append(out, attribute{name, d.GetExtensions()[name]})
		}
	}
	return out
}

func (p cloudEvents) Render(in *Input) (*Rendered, error) {
	r, err := p.standard.Render(in)
	if err != nil {
		return nil, err
	}
	if in.Webhook.GetOptions().GetCloudeventsMode() == modeStructured {
		r.Header[headerContentType] = []string{cloudEventsType}
		r.Body = structured(in)
	} else {
		for _, a := range attributes(in) {
			r.Header[http.CanonicalHeaderKey(cloudEventsPrefix+a.name)] = []string{encodeAttribute(a.value)}
		}
	}
	if h := in.Webhook.GetHandshake(); h.GetConsented() && asks(in.Webhook) {
		r.Header[headerOrigin] = []string{h.GetOrigin()}
	}
	return r, nil
}

// asks says whether the webhook's receiver is asked for its consent.
func asks(w *postriderv1.Webhook) bool {
	return cmp.Or(w.GetOptions().GetHandshake(), HandshakeOff) != HandshakeOff
}

// AllowedRate is how many attempts a second the receiver allowed in its handshake; 0: any number.
func AllowedRate(w *postriderv1.Webhook) float64 {
	if h := w.GetHandshake(); h.GetConsented() && asks(w) {
		return float64(h.GetAllowedRate()) / time.Minute.Seconds()
	}
	return 0
}

// structured is the event in the JSON format. Data that are JSON stand in it byte for byte, others
// in base64.
func structured(in *Input) []byte {
	b := make([]byte, 0, len(in.Data)+512)
	b = append(b, '{')
	for i, a := range attributes(in) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), a.name...), `":`...)
		b = append(b, jsonText(a.value)...)
	}
	if len(in.Data) == 0 {
		return append(b, '}')
	}
	kind := contentType(in)
	b = append(append(b, `,"datacontenttype":`...), jsonText(kind)...)
	if isJSON(kind) && json.Valid(in.Data) {
		b = append(append(b, `,"data":`...), in.Data...)
	} else {
		b = append(b, `,"data_base64":"`...)
		b = append(base64.StdEncoding.AppendEncode(b, in.Data), '"')
	}
	return append(b, '}')
}

// isJSON says whether a media type is JSON's, or has its suffix.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == jsonType || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json"))
}

// encodeAttribute is an attribute as a header's value (HTTP binding, section 3.1.3.2).
func encodeAttribute(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	s = strings.ToValidUTF8(s, "\uFFFD")
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
