package profile

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/retry"
)

// rules are what a profile asks of its webhooks.
type rules struct {
	schedule retry.Schedule
	// methods that it has a form for; none: POST.
	methods []string
	// https says that no other URLs are taken, whatever the account may use.
	https bool
	// sets says whether the profile sets the header itself.
	sets func(canonical string) bool
	// options that it knows besides message_signature.
	options []string
}

// validate says what a webhook breaks of the rules of all profiles and of r.
func (r *rules) validate(w *postriderv1.Webhook) []fault.Violation {
	out := r.method(w)
	// Whether http is allowed is else the account's matter; the caller normalises with that knowledge.
	if _, err := NormalizeURL(w.GetUrl(), !r.https); err != nil {
		out = append(out, fault.Violation{Field: "webhook.url", Rule: err.Error()})
	}
	out = append(out, validateHeaders(w.GetHeaders())...)
	for name := range w.GetHeaders() {
		if r.sets != nil && r.sets(http.CanonicalHeaderKey(name)) {
			out = append(out, fault.Violation{Field: headerField(name), Rule: "is set by the profile"})
		}
	}
	if _, err := retry.FromProto(w.GetRetrySchedule(), r.schedule); err != nil {
		for line := range strings.Lines(err.Error()) {
			// Each line is the field of the schedule and its rule.
			field, rule, _ := strings.Cut(strings.TrimSpace(line), ": ")
			out = append(out, fault.Violation{Field: "webhook.retry_schedule." + field, Rule: rule})
		}
	}
	return sorted(append(out, r.checkOptions(w)...))
}

func (r *rules) method(w *postriderv1.Webhook) []fault.Violation {
	methods := r.methods
	if len(methods) == 0 {
		methods = []string{http.MethodPost}
	}
	if m := cmp.Or(w.GetMethod(), http.MethodPost); !slices.Contains(methods, m) {
		return []fault.Violation{{Field: "webhook.method", Rule: "must be " + strings.Join(methods, " or ") + " in this profile"}}
	}
	return nil
}

// prefixed says that the profile sets every header with the prefix.
func prefixed(prefix string) func(string) bool {
	return func(canonical string) bool { return strings.HasPrefix(canonical, prefix) }
}

// among says that the profile sets these headers.
func among(names ...string) func(string) bool {
	return func(canonical string) bool { return slices.Contains(names, canonical) }
}

func validateHeaders(headers map[string]string) []fault.Violation {
	var out []fault.Violation
	if len(headers) > MaxHeaders {
		out = append(out, fault.Violation{Field: "webhook.headers", Rule: fmt.Sprintf("must be at most %d", MaxHeaders)})
	}
	seen := make(map[string]bool, len(headers))
	for name, value := range headers {
		if err := CheckHeader(name, value); err != nil {
			out = append(out, fault.Violation{Field: headerField(name), Rule: err.Error()})
		}
		canonical := http.CanonicalHeaderKey(name)
		if seen[canonical] {
			out = append(out, fault.Violation{Field: "webhook.headers", Rule: "names must differ in more than case"})
		}
		seen[canonical] = true
	}
	return out
}

// headerField is the path of a custom header.
func headerField(name string) string { return "webhook.headers[" + strconv.Quote(name) + "]" }

// sorted makes the order of violations that came out of maps stable, without repeats.
func sorted(v []fault.Violation) []fault.Violation {
	slices.SortFunc(v, func(a, b fault.Violation) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Rule, b.Rule))
	})
	return slices.Compact(v)
}
