package cli

import (
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// webhookFlags are the flags that say what a webhook is.
type webhookFlags struct {
	profile      string
	name         string
	events       []string
	filter       string
	scopes       string
	method       string
	headers      []string
	timeout      time.Duration
	delays       []string
	jitter       float64
	basis        string
	maxInFlight  int32
	rateLimit    float64
	traceContext bool
	annotations  []string
	options      string
	failingAfter time.Duration
	ordering     string
}

func (w *webhookFlags) add(f *pflag.FlagSet) {
	f.StringSliceVar(&w.events, "events", nil, "event patterns: release.live, release.* for all below, * for all; can be repeated")
	f.StringVar(&w.name, "name", "", "for people; default: the URL's host")
	f.StringVar(&w.filter, "filter", "", "CEL expression over event and data that must be true")
	f.StringVar(&w.scopes, "scopes", "", "JSON object of labels and the values wanted, such as {\"project_id\":[12,13]}")
	f.StringVar(&w.method, "method", "", "POST (default), or GET where the profile has a form for it")
	f.StringArrayVar(&w.headers, "header", nil, "'Name: value', sent with each request; can be repeated")
	f.DurationVar(&w.timeout, "attempt-timeout", 0, "time limit of an attempt, 1s to 30s; default: 20s")
	f.StringSliceVar(&w.delays, "retry-delays", nil, "delays between attempts in place of the profile's, such as 1m,5m,30m; none for a single attempt")
	f.Float64Var(&w.jitter, "retry-jitter", 0, "random share added to each delay, 0 to 1; default: the profile's; goes with --retry-delays")
	f.StringVar(&w.basis, "retry-basis", "", "what delays count from: previous_attempt or first_attempt; default: the profile's; goes with --retry-delays")
	f.Int32Var(&w.maxInFlight, "max-in-flight", 0, "attempts at once, 1 to 1024; default: 64")
	f.Float64Var(&w.rateLimit, "rate-limit", 0, "attempts per second; default: no limit")
	f.StringVar(&w.ordering, "ordering", "", "none (default), strict for the order of the events, key for that of the events of one ordering key")
	f.BoolVar(&w.traceContext, "trace-context", true, "whether deliveries carry a W3C traceparent")
	f.StringVar(&w.options, "options", "", "JSON object of what only some profiles know, such as {\"handshake\":\"required\"}")
	f.DurationVar(&w.failingAfter, "disable-failing-after", 0, "time after which it is disabled if all attempts fail, 1h to 720h; default: the account's; 0s: that again")
	f.StringArrayVar(&w.annotations, "annotation", nil, "key=value in your own terms; can be repeated")
}

// webhook is what the flags say, and which fields they name.
func (w *webhookFlags) webhook(f *pflag.FlagSet) (*postriderv1.Webhook, *fieldmaskpb.FieldMask, error) {
	out, mask := &postriderv1.Webhook{}, &fieldmaskpb.FieldMask{}
	// In the order of the message; the first mistake is told.
	for _, field := range []struct {
		flag, name string
		set        func() error
	}{
		{"name", "display_name", func() error { out.DisplayName = w.name; return nil }},
		{"method", "method", func() error { out.Method = w.method; return nil }},
		{"events", "event_types", func() error { out.EventTypes = w.events; return nil }},
		{"filter", "filter", func() error { out.Filter = w.filter; return nil }},
		{"scopes", "scopes", func() (err error) { out.Scopes, err = parseScopes(w.scopes); return err }},
		{"header", "headers", func() (err error) { out.Headers, err = keyValues("--header", ":", nonEmpty(w.headers)); return err }},
		{"attempt-timeout", "attempt_timeout", func() error { out.AttemptTimeout = durationpb.New(w.timeout); return nil }},
		{"retry-delays", "retry_schedule", func() (err error) { out.RetrySchedule, err = w.schedule(f); return err }},
		{"max-in-flight", "max_in_flight", func() error { out.MaxInFlight = w.maxInFlight; return nil }},
		{"rate-limit", "rate_limit", func() error { out.RateLimit = w.rate(); return nil }},
		{"trace-context", "trace_context", func() error { out.TraceContext = &w.traceContext; return nil }},
		{"annotation", "annotations", func() (err error) {
			out.Annotations, err = keyValues("--annotation", "=", nonEmpty(w.annotations))
			return err
		}},
		{"disable-failing-after", "disable_failing_after", func() error {
			if w.failingAfter != 0 {
				out.DisableFailingAfter = durationpb.New(w.failingAfter)
			}
			return nil
		}},
		{"ordering", "ordering", func() error { out.Ordering = w.ordering; return nil }},
		{"options", "options", func() (err error) { out.Options, err = parseOptions(w.options); return err }},
	} {
		if !f.Changed(field.flag) {
			continue
		}
		if err := field.set(); err != nil {
			return nil, nil, err
		}
		mask.Paths = append(mask.Paths, field.name)
	}
	for _, flag := range []string{"retry-jitter", "retry-basis"} {
		if f.Changed(flag) && !f.Changed("retry-delays") {
			return nil, nil, usagef("--%s goes with --retry-delays", flag)
		}
	}
	return out, mask, nil
}

// rate is the limit; 0 is none.
func (w *webhookFlags) rate() *float64 {
	if w.rateLimit == 0 {
		return nil
	}
	return &w.rateLimit
}

// schedule is the retry schedule; without delays, given as an empty value, the profile's holds.
func (w *webhookFlags) schedule(f *pflag.FlagSet) (*postriderv1.RetrySchedule, error) {
	list := nonEmpty(w.delays)
	if len(list) == 0 {
		return nil, nil //nolint:nilnil // an absent schedule is what the API calls nil
	}
	out := &postriderv1.RetrySchedule{}
	if len(list) > 1 || list[0] != "none" {
		for _, text := range list {
			d, err := time.ParseDuration(text)
			if err != nil {
				return nil, usagef("--retry-delays: %q is no duration such as 30s or 5m", text)
			}
			out.Delays = append(out.Delays, durationpb.New(d))
		}
	}
	if f.Changed("retry-jitter") {
		out.Jitter = &w.jitter
	}
	n, err := choice("--retry-basis", w.basis, "DELAY_BASIS_", postriderv1.DelayBasis_value)
	out.DelayBasis = postriderv1.DelayBasis(n)
	return out, err
}

func parseScopes(text string) (*structpb.Struct, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // absent scopes are what the API calls nil
	}
	s := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(text), s); err != nil {
		return nil, usagef("--scopes: %q is no JSON object", text)
	}
	return s, nil
}

func parseOptions(text string) (*postriderv1.ProfileOptions, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // absent options are what the API calls nil
	}
	o := &postriderv1.ProfileOptions{}
	if err := protojson.Unmarshal([]byte(text), o); err != nil {
		return nil, usagef("--options: %q is no JSON object of options", text)
	}
	return o, nil
}

// nonEmpty is a list without its empty items: an empty flag names none.
func nonEmpty(list []string) []string {
	var out []string
	for _, item := range list {
		if item != "" {
			out = append(out, item)
		}
	}
	return out
}
