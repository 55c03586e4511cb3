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

// validatePost is the rules of every profile that POSTs.
func validatePost(w *postriderv1.Webhook, base retry.Schedule) []fault.Violation {
	var out []fault.Violation
	if m := w.GetMethod(); m != "" && m != http.MethodPost {
		out = append(out, fault.Violation{Field: "webhook.method", Rule: "must be POST in this profile"})
	}
	// Whether http is allowed is the account's matter; the caller normalises with that knowledge.
	if _, err := NormalizeURL(w.GetUrl(), true); err != nil {
		out = append(out, fault.Violation{Field: "webhook.url", Rule: err.Error()})
	}
	out = append(out, validateHeaders(w.GetHeaders())...)
	if _, err := retry.FromProto(w.GetRetrySchedule(), base); err != nil {
		for rule := range strings.Lines(err.Error()) {
			out = append(out, fault.Violation{Field: "webhook.retry_schedule", Rule: strings.TrimSpace(rule)})
		}
	}
	return sorted(out)
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
