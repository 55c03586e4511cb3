package console

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/profile"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// The form's fields of a webhook's retry schedule, and the violations that belong to each.
const (
	delaysField = "retry_schedule"
	jitterField = "retry_jitter"
	basisField  = "retry_basis"

	// oneAttempt is what is written for a schedule without delays.
	oneAttempt = "none"
)

// retryFields ask for the schedule. Empty is the profile's, which stands in the help.
func (f *webhookForm) retryFields() []field {
	delays, jitter := f.area(delaysField, 2), f.number(jitterField, "0.05")
	if prof, ok := profile.Lookup(f.Profile); ok {
		delays.Help = f.words.get("webhook.retry_schedule.help", shownDelays(prof.Schedule().Delays))
	}
	basis := f.choose(basisField, f.named("", "previous_attempt", "first_attempt")...)
	for _, each := range []struct {
		to   *field
		name string
	}{{&delays, "retry_schedule.delays"}, {&jitter, "retry_schedule.jitter"}, {&basis, "retry_schedule.delay_basis"}} {
		if each.to.Error == "" {
			each.to.Error = f.errors[each.name]
		}
	}
	return []field{delays, jitter, basis}
}

// fillSchedule puts a webhook's own schedule into the form.
func (f *webhookForm) fillSchedule(s *postriderv1.RetrySchedule) {
	if s == nil {
		return
	}
	f.values.Set(delaysField, shownSchedule(s))
	if s.Jitter != nil {
		f.values.Set(jitterField, strconv.FormatFloat(s.GetJitter(), 'g', -1, 64))
	}
	if b := s.GetDelayBasis(); b != postriderv1.DelayBasis_DELAY_BASIS_UNSPECIFIED {
		f.values.Set(basisField, strings.ToLower(strings.TrimPrefix(b.String(), "DELAY_BASIS_")))
	}
}

// schedule reads the schedule from the form; nil is the profile's.
func (f *webhookForm) schedule(errs map[string]string) *postriderv1.RetrySchedule {
	words := listed(f.values.Get(delaysField))
	jitter, basis := strings.TrimSpace(f.values.Get(jitterField)), f.values.Get(basisField)
	if len(words) == 0 {
		// Without delays the API would take it for a schedule of one attempt.
		for name, value := range map[string]string{jitterField: jitter, basisField: basis} {
			if value != "" {
				errs[name] = f.words.get("webhook.retry_schedule.missing")
			}
		}
		return nil
	}
	s := &postriderv1.RetrySchedule{}
	if len(words) > 1 || words[0] != oneAttempt {
		for _, word := range words {
			d, err := time.ParseDuration(word)
			if err != nil {
				errs[delaysField] = f.words.get("webhook.retry_schedule.bad", word)
				continue
			}
			s.Delays = append(s.Delays, durationpb.New(d))
		}
	}
	if jitter != "" {
		share := f.parse(jitterField, jitter, errs)
		s.Jitter = &share
	}
	s.DelayBasis = postriderv1.DelayBasis(postriderv1.DelayBasis_value["DELAY_BASIS_"+strings.ToUpper(basis)])
	return s
}

// shownSchedule is a webhook's own delays as they are written in the form; empty if it has none.
func shownSchedule(s *postriderv1.RetrySchedule) string {
	if s == nil {
		return ""
	}
	delays := make([]time.Duration, len(s.GetDelays()))
	for i, d := range s.GetDelays() {
		delays[i] = d.AsDuration()
	}
	return shownDelays(delays)
}

func shownDelays(delays []time.Duration) string {
	if len(delays) == 0 {
		return oneAttempt
	}
	texts := make([]string, len(delays))
	for i, d := range delays {
		text := d.String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		texts[i] = text
	}
	return strings.Join(texts, ", ")
}

// listed are the words of a text, apart by space or comma.
func listed(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}
