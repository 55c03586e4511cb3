package outcome_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/outcome"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func TestClassify(t *testing.T) {
	t.Parallel()
	const none = postrider.ClassNone
	failed := func(class postrider.ErrorClass) outcome.Verdict {
		return outcome.Verdict{Outcome: postrider.Retryable, Class: class}
	}
	tests := map[string]struct {
		status     int
		class      postrider.ErrorClass
		retryAfter string
		want       outcome.Verdict
	}{
		"200 succeeds":                    {200, none, "", outcome.Verdict{Outcome: postrider.Succeeded}},
		"299 succeeds":                    {299, none, "", outcome.Verdict{Outcome: postrider.Succeeded}},
		"Retry-After on 202 is nothing":   {202, none, "60", outcome.Verdict{Outcome: postrider.Succeeded}},
		"410 disables the webhook":        {410, none, "", outcome.Verdict{Outcome: postrider.Gone, Class: postrider.ClassGone}},
		"101 fails":                       {101, none, "", failed(postrider.ClassStatus)},
		"300 is a redirect":               {300, none, "", failed(postrider.ClassRedirect)},
		"301 is a redirect":               {301, none, "", failed(postrider.ClassRedirect)},
		"304 is a redirect":               {304, none, "", failed(postrider.ClassRedirect)},
		"399 is a redirect":               {399, none, "", failed(postrider.ClassRedirect)},
		"400 is retried":                  {400, none, "", failed(postrider.ClassStatus)},
		"401 is retried":                  {401, none, "", failed(postrider.ClassStatus)},
		"404 is retried":                  {404, none, "", failed(postrider.ClassStatus)},
		"408 is retried":                  {408, none, "", failed(postrider.ClassStatus)},
		"413 is retried":                  {413, none, "", failed(postrider.ClassStatus)},
		"422 is retried":                  {422, none, "", failed(postrider.ClassStatus)},
		"425 is retried":                  {425, none, "", failed(postrider.ClassStatus)},
		"500 is retried":                  {500, none, "", failed(postrider.ClassStatus)},
		"599 is retried":                  {599, none, "", failed(postrider.ClassStatus)},
		"999 is retried":                  {999, none, "", failed(postrider.ClassStatus)},
		"503 without Retry-After":         {503, none, "", failed(postrider.ClassStatus)},
		"503 with garbage in Retry-After": {503, none, "soon", failed(postrider.ClassStatus)},
		"429 asks for less": {
			429, none, "", outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, Throttle: true},
		},
		"502 asks for less": {
			502, none, "", outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, Throttle: true},
		},
		"504 asks for less": {
			504, none, "", outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, Throttle: true},
		},
		"429 with a past Retry-After asks for less": {
			429, none, now.Add(-time.Hour).Format(http.TimeFormat),
			outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, Throttle: true},
		},
		"429 with Retry-After pauses the webhook": {
			429, none, "120",
			outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, RetryAfter: now.Add(2 * time.Minute), Pause: true},
		},
		"503 with a date pauses the webhook": {
			503, none, now.Add(time.Hour).Format(http.TimeFormat),
			outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, RetryAfter: now.Add(time.Hour), Pause: true},
		},
		"Retry-After on another failure is for the delivery alone": {
			500, none, "1.2",
			outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, RetryAfter: now.Add(2 * time.Second)},
		},
		"502 with Retry-After does not ask for less": {
			502, none, "5",
			outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, RetryAfter: now.Add(5 * time.Second)},
		},
		"Retry-After is capped at a day": {
			503, none, "99999999999999999999",
			outcome.Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus, RetryAfter: now.Add(24 * time.Hour), Pause: true},
		},
		"a timeout is retried":            {0, postrider.ClassTimeout, "", failed(postrider.ClassTimeout)},
		"a name without address":          {0, postrider.ClassDNS, "", failed(postrider.ClassDNS)},
		"a blocked address is retried":    {0, postrider.ClassBlocked, "", failed(postrider.ClassBlocked)},
		"the proxy's failure is retried":  {0, postrider.ClassProxy, "", failed(postrider.ClassProxy)},
		"what cannot be rendered is dead": {0, postrider.ClassUnrendered, "", outcome.Verdict{Outcome: postrider.Permanent, Class: postrider.ClassUnrendered}},
		"a URL that is too long is dead":  {0, postrider.ClassURLTooLong, "", outcome.Verdict{Outcome: postrider.Permanent, Class: postrider.ClassURLTooLong}},
		"a payload that is gone is dead":  {0, postrider.ClassGoneEvent, "", outcome.Verdict{Outcome: postrider.Permanent, Class: postrider.ClassGoneEvent}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, outcome.Classify(test.status, test.class, test.retryAfter, now))
		})
	}
}

func TestOnlySuccessHasNoClass(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		status := rapid.IntRange(100, 999).Draw(t, "status")
		v := outcome.Classify(status, postrider.ClassNone, rapid.String().Draw(t, "retry-after"), now)
		success := status >= 200 && status < 300
		if (v.Outcome == postrider.Succeeded) != success || (v.Class == postrider.ClassNone) != success {
			t.Fatalf("status %d gives %+v", status, v)
		}
		if v.Pause && (v.RetryAfter.IsZero() || v.Throttle) {
			t.Fatalf("status %d gives %+v", status, v)
		}
	})
}
