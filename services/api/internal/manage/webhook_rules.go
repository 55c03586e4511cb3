package manage

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/profile"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Profiles with rules about what is saved.
const (
	everyEventProfile = "labelst"
	httpsProfile      = "audata"
)

// Bounds and defaults of webhooks.
const (
	maxPatterns           = 100
	maxAnnotations        = 32
	maxAnnotationBytes    = 1024
	minAttemptTimeout     = time.Second
	maxAttemptTimeout     = 30 * time.Second
	defaultAttemptTimeout = 20 * time.Second
	maxInFlight           = 1024
	defaultInFlight       = 64
	minRate, maxRate      = 0.1, 10_000.0
	defaultOrdering       = "none"
)

// orderings are what a webhook's ordering may be.
var orderings = []string{defaultOrdering, "strict", "key"}

// normalize fills in defaults, writes the URL in its one form, and reports every rule that the
// webhook breaks.
func (s *Server) normalize(w *postriderv1.Webhook, prof profile.Profile, acc *postriderv1.Account) error {
	w.Method = orDefault(strings.ToUpper(w.GetMethod()), "POST")
	if w.GetAttemptTimeout() == nil {
		w.AttemptTimeout = durationpb.New(defaultAttemptTimeout)
	}
	if w.GetMaxInFlight() == 0 {
		w.MaxInFlight = defaultInFlight
	}
	w.Ordering = orDefault(w.GetOrdering(), defaultOrdering)
	if w.GetProfile() == everyEventProfile && len(w.GetEventTypes()) == 0 {
		w.EventTypes = []string{"*"} // its webhooks take every event; the profile refuses a choice
	}
	var v violations
	allowHTTP := s.deps.AllowHTTP
	if acc.AllowHttp != nil {
		allowHTTP = acc.GetAllowHttp()
	}
	// The source system saves nothing but https, in development too.
	allowHTTP = allowHTTP && w.GetProfile() != httpsProfile
	if w.GetUrl() == "" {
		v.check(false, "webhook.url", "is required")
	} else if normal, err := profile.NormalizeURL(w.GetUrl(), allowHTTP); err != nil {
		v.check(false, "webhook.url", err.Error())
	} else {
		w.Url = normal
		w.DisplayName = orDefault(w.GetDisplayName(), hostOf(normal))
	}
	v = append(v, checkMatching(w)...)
	v = append(v, checkLimits(w)...)
	for _, violation := range prof.ValidateWebhook(w) {
		if violation.Field != "webhook.url" || w.GetUrl() != "" { // a missing URL is said once
			v = append(v, violation)
		}
	}
	if len(v) > 0 {
		return fault.InvalidFields(v...)
	}
	return nil
}

func checkMatching(w *postriderv1.Webhook) []fault.Violation {
	var v violations
	v.check(len(w.GetEventTypes()) > 0, "webhook.event_types", "at least one pattern is required")
	v.check(len(w.GetEventTypes()) <= maxPatterns, "webhook.event_types", fmt.Sprintf("must be at most %d patterns", maxPatterns))
	for i, pattern := range w.GetEventTypes() {
		if _, err := match.ParsePattern(pattern); err != nil {
			v.check(false, fmt.Sprintf("webhook.event_types[%d]", i), err.Error())
		}
	}
	if w.GetFilter() != "" {
		if _, err := match.CompileFilter(w.GetFilter()); err != nil {
			v.check(false, "webhook.filter", err.Error())
		}
	}
	if _, err := match.ParseScopes(w.GetScopes()); err != nil {
		v.check(false, "webhook.scopes", err.Error())
	}
	return v
}

func checkLimits(w *postriderv1.Webhook) []fault.Violation {
	var v violations
	v.check(len(w.GetDisplayName()) <= maxDisplayName, "webhook.display_name", "must be at most 255 bytes")
	timeout := w.GetAttemptTimeout().AsDuration()
	v.check(timeout >= minAttemptTimeout && timeout <= maxAttemptTimeout, "webhook.attempt_timeout", "must be from 1 s to 30 s")
	v.check(w.GetMaxInFlight() >= 1 && w.GetMaxInFlight() <= maxInFlight, "webhook.max_in_flight", fmt.Sprintf("must be from 1 to %d", maxInFlight))
	if w.RateLimit != nil {
		v.check(w.GetRateLimit() >= minRate && w.GetRateLimit() <= maxRate, "webhook.rate_limit", "must be from 0.1 to 10000 a second")
	}
	v.check(slices.Contains(orderings, w.GetOrdering()), "webhook.ordering", "must be one of "+joined(orderings))
	if d := w.GetDisableFailingAfter(); d != nil {
		v.check(checkFailingLimit(d.AsDuration(), false), "webhook.disable_failing_after", failingLimitRule)
	}
	v.check(len(w.GetAnnotations()) <= maxAnnotations, "webhook.annotations", fmt.Sprintf("must be at most %d", maxAnnotations))
	for name, value := range w.GetAnnotations() {
		v.check(name != "" && len(name)+len(value) <= maxAnnotationBytes, "webhook.annotations["+name+"]", "must have a name and be at most 1024 bytes")
	}
	return v
}

func joined(names []string) string { return strings.Join(names, ", ") }
