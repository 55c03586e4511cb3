package console

import (
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// webhookKinds are the kinds of system that can be chosen, as the reader knows them.
var webhookKinds = []string{
	"standard", "jewelmusic", "labelst", "audata", "offblocks", "ingedata", "cloudevents", "stripe", "github", "shopify", "slack", "svix", "jewelmusic-sdk", "custom",
}

// webhookForm is the form of one kind: the least that it needs stands in front, the rest behind.
type webhookForm struct {
	formFields
	Profile   string
	existing  *postriderv1.Webhook // nil: it is a new one
	catalogue []*postriderv1.EventType
}

// newWebhookForm returns nil for what is no kind.
func newWebhookForm(w words, profile string) *webhookForm {
	if !slices.Contains(webhookKinds, profile) {
		return nil
	}
	return &webhookForm{formFields: formFields{words: w, form: "webhook", values: url.Values{}}, Profile: profile}
}

func (f *webhookForm) defaults() {
	f.values.Set("method", "POST")
	if f.choosesTypes() {
		f.values.Set("all", "on")
	}
}

// Existing is the webhook that is edited.
func (f *webhookForm) Existing() *postriderv1.Webhook { return f.existing }

// Errors are those of the form as a whole and of its fields.
func (f *webhookForm) Errors() map[string]string { return f.errors }

// OneEvent reports whether the kind has exactly one event and a method.
func (f *webhookForm) OneEvent() bool { return f.Profile == "audata" }

// ChoosesTypes reports whether the reader says which events; a label service gets all there are.
func (f *webhookForm) ChoosesTypes() bool { return f.choosesTypes() }

func (f *webhookForm) choosesTypes() bool { return f.Profile != "labelst" && !f.OneEvent() }

// First are the fields that every such webhook needs.
func (f *webhookForm) First() []field {
	name, target := f.text("display_name"), f.required("url")
	if f.Profile == "labelst" {
		name.Required = true
		return []field{name, target}
	}
	if f.OneEvent() {
		event := f.required("event")
		for _, t := range f.catalogue {
			event.List = append(event.List, t.GetName())
		}
		event.Error = f.errors["event_types"]
		target.Label, target.Help = f.words.get("webhook.endpoint"), f.words.get("webhook.endpoint.help")
		return []field{event, target}
	}
	return []field{name, target}
}

// Method is the one that is chosen.
func (f *webhookForm) Method() string { return f.values.Get("method") }

// All reports whether every event type is chosen.
func (f *webhookForm) All() bool { return f.values.Get("all") != "" }

// Types are the catalogue's, by group, with what is chosen.
func (f *webhookForm) Types() []typeGroup { return groupTypes(f.catalogue, f.values["types"]) }

// Patterns is what is chosen beside the catalogue.
func (f *webhookForm) Patterns() field {
	out := f.area("patterns", 2)
	out.Error = f.errors["event_types"]
	return out
}

// More are the fields that have good defaults.
func (f *webhookForm) More() []field {
	fields := []field{f.text("filter"), f.area("headers", 3), f.number("attempt_timeout", "1"), f.number("max_in_flight", "1"), f.number("rate_limit", "0.1"), f.choose("ordering", f.named("none", "strict", "key")...)}
	if f.OneEvent() {
		fields = append([]field{f.text("display_name"), f.choose("query_style", f.named("brackets", "dots", "json")...)}, fields...)
	}
	if f.Profile == "cloudevents" {
		fields = append(fields, f.choose("cloudevents_mode", f.named("binary", "structured")...), f.choose("handshake", f.named("off", "optional", "required")...))
	}
	fields = append(fields, f.retryFields()...)
	if f.existing == nil && f.Profile != "labelst" {
		fields = append(fields, f.text("secret"))
	}
	return fields
}

// MoreRefused reports whether one of these is wrong, so that it must not stay folded away.
func (f *webhookForm) MoreRefused() bool {
	return slices.ContainsFunc(f.More(), func(each field) bool { return each.Error != "" })
}

// Scheme is how a webhook of the kind custom signs.
func (f *webhookForm) Scheme() *field {
	if f.Profile != "custom" {
		return nil
	}
	out := f.area("signature_scheme", 8)
	if out.Error == "" {
		out.Error = f.errors["options.signature_scheme"]
	}
	return &out
}

// paths are the fields of a webhook that the form changes.
func (f *webhookForm) paths() []string {
	paths := []string{"display_name", "url", "filter", "headers", "attempt_timeout", "max_in_flight", "rate_limit", "ordering", "retry_schedule"}
	if f.Profile != "labelst" {
		paths = append(paths, "event_types")
	}
	if f.OneEvent() {
		paths = append(paths, "method")
	}
	if f.hasOptions() {
		paths = append(paths, "options")
	}
	return paths
}

func (f *webhookForm) hasOptions() bool {
	return f.OneEvent() || f.Profile == "cloudevents" || f.Profile == "custom"
}

// fill puts a webhook's values into the form.
func (f *webhookForm) fill(w *postriderv1.Webhook) {
	v := f.values
	v.Set("display_name", w.GetDisplayName())
	v.Set("url", w.GetUrl())
	v.Set("method", w.GetMethod())
	v.Set("filter", w.GetFilter())
	v.Set("etag", w.GetEtag())
	v["types"] = w.GetEventTypes()
	if len(w.GetEventTypes()) == 1 {
		v.Set("event", w.GetEventTypes()[0])
	}
	if slices.Contains(w.GetEventTypes(), "*") {
		v.Set("all", "on")
	}
	var lines, patterns []string
	for name, value := range w.GetHeaders() {
		lines = append(lines, name+": "+value)
	}
	for _, t := range w.GetEventTypes() {
		if strings.HasSuffix(t, "*") && t != "*" {
			patterns = append(patterns, t)
		}
	}
	slices.Sort(lines)
	v.Set("headers", strings.Join(lines, "\n"))
	v.Set("patterns", strings.Join(patterns, "\n"))
	if d := w.GetAttemptTimeout(); d != nil {
		v.Set("attempt_timeout", strconv.FormatFloat(d.AsDuration().Seconds(), 'g', -1, 64))
	}
	if w.GetMaxInFlight() > 0 {
		v.Set("max_in_flight", strconv.Itoa(int(w.GetMaxInFlight())))
	}
	if w.RateLimit != nil {
		v.Set("rate_limit", strconv.FormatFloat(w.GetRateLimit(), 'g', -1, 64))
	}
	v.Set("ordering", w.GetOrdering())
	f.fillSchedule(w.GetRetrySchedule())
	v.Set("query_style", w.GetOptions().GetQueryStyle())
	v.Set("cloudevents_mode", w.GetOptions().GetCloudeventsMode())
	v.Set("handshake", w.GetOptions().GetHandshake())
	if s := w.GetOptions().GetSignatureScheme(); s != nil {
		text, _ := protojson.MarshalOptions{Multiline: true, UseProtoNames: true}.Marshal(s)
		v.Set("signature_scheme", string(text))
	}
}

// webhook reads the form. What it cannot read is named by field.
func (f *webhookForm) webhook() (*postriderv1.Webhook, map[string]string) {
	errs := make(map[string]string)
	get := func(name string) string { return strings.TrimSpace(f.values.Get(name)) }
	w := &postriderv1.Webhook{Profile: f.Profile, DisplayName: get("display_name"), Url: get("url"), Filter: get("filter"), Ordering: get("ordering")}
	switch {
	case f.OneEvent():
		w.EventTypes, w.Method = []string{get("event")}, get("method")
	case f.choosesTypes() && f.All():
		w.EventTypes = []string{"*"}
	case f.choosesTypes():
		w.EventTypes = f.chosenTypes()
	}
	w.Headers = f.headers(errs)
	if text := get("attempt_timeout"); text != "" {
		if s := f.parse("attempt_timeout", text, errs); s > 0 {
			w.AttemptTimeout = durationpb.New(time.Duration(s * float64(time.Second)))
		}
	}
	if text := get("max_in_flight"); text != "" {
		w.MaxInFlight = int32(f.parse("max_in_flight", text, errs))
	}
	if text := get("rate_limit"); text != "" {
		rate := f.parse("rate_limit", text, errs)
		w.RateLimit = &rate
	}
	w.RetrySchedule = f.schedule(errs)
	f.options(w, get, errs)
	return w, errs
}

func (f *webhookForm) options(w *postriderv1.Webhook, get func(string) string, errs map[string]string) {
	if !f.hasOptions() {
		return
	}
	w.Options = &postriderv1.ProfileOptions{QueryStyle: get("query_style"), CloudeventsMode: get("cloudevents_mode"), Handshake: get("handshake")}
	if f.OneEvent() && w.GetMethod() != "GET" {
		w.Options.QueryStyle = ""
	}
	if old := f.existing.GetOptions(); old != nil {
		w.Options.MessageSignature = old.GetMessageSignature()
	}
	if text := get("signature_scheme"); text != "" {
		scheme := &postriderv1.SignatureScheme{}
		if err := protojson.Unmarshal([]byte(text), scheme); err != nil {
			errs["signature_scheme"] = f.words.get("webhook.signature_scheme.bad")
		}
		w.Options.SignatureScheme = scheme
	}
}

// chosenTypes are the event types that are ticked, and the patterns that are written.
func (f *webhookForm) chosenTypes() []string {
	chosen := slices.Clone(f.values["types"])
	for _, word := range listed(f.values.Get("patterns")) {
		if !slices.Contains(chosen, word) {
			chosen = append(chosen, word)
		}
	}
	return chosen
}

func (f *webhookForm) headers(errs map[string]string) map[string]string {
	headers := make(map[string]string)
	for line := range strings.Lines(f.values.Get("headers")) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			errs["headers"] = f.words.get("webhook.headers.bad")
			continue
		}
		headers[textproto.TrimString(name)] = textproto.TrimString(value)
	}
	return headers
}
