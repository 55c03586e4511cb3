// Package outcome decides what an attempt's answer means. It is pure.
package outcome

import (
	"net/http"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/retry"
)

// Verdict is what an attempt's answer means for its delivery and for its webhook.
type Verdict struct {
	// Outcome is the attempt's.
	Outcome postrider.Outcome
	// Class says why it failed, ClassNone if it did not.
	Class postrider.ErrorClass
	// RetryAfter is the receiver's wish, zero if it has none: no attempt of this delivery before it.
	RetryAfter time.Time
	// Pause says that RetryAfter holds for the whole webhook.
	Pause bool
	// Throttle says that the receiver is overloaded: its concurrency is to be halved.
	Throttle bool
}

// Classify turns the answer of an attempt into its verdict. Class is that of an exchange without
// an answer, which then has status 0.
//
//	2xx                                     succeeded
//	410                                     gone
//	3xx                                     retryable, redirect (never followed)
//	any other status                        retryable, http_status
//	could not be rendered or is too long    permanent
//	no answer                               retryable, with the class of the exchange
//
// Retry-After counts on every failed answer. On 429 and 503 it pauses the whole webhook; 429, 502
// and 504 without it ask for less at once (Standard Webhooks, "Throttling").
func Classify(status int, class postrider.ErrorClass, retryAfter string, now time.Time) Verdict {
	if status == 0 {
		return Verdict{Outcome: withoutAnswer(class), Class: class}
	}
	var v Verdict
	switch {
	case status >= 200 && status <= 299:
		return Verdict{Outcome: postrider.Succeeded, Class: postrider.ClassNone}
	case status == http.StatusGone:
		return Verdict{Outcome: postrider.Gone, Class: postrider.ClassGone}
	case status >= 300 && status <= 399:
		v = Verdict{Outcome: postrider.Retryable, Class: postrider.ClassRedirect}
	default:
		v = Verdict{Outcome: postrider.Retryable, Class: postrider.ClassStatus}
	}
	at, asked := retry.ParseRetryAfter(retryAfter, now)
	if asked {
		v.RetryAfter = at
	}
	switch status {
	case http.StatusTooManyRequests:
		v.Pause, v.Throttle = asked, !asked
	case http.StatusServiceUnavailable:
		v.Pause = asked
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		v.Throttle = !asked
	}
	return v
}

// withoutAnswer is the outcome of an attempt that got no answer. Only what could not be sent as it
// is, and never will be, is permanent: a name or a blocked address may change.
func withoutAnswer(class postrider.ErrorClass) postrider.Outcome {
	switch class {
	case postrider.ClassUnrendered, postrider.ClassURLTooLong, postrider.ClassGoneEvent:
		return postrider.Permanent
	case postrider.ClassNone, postrider.ClassStatus, postrider.ClassGone, postrider.ClassRedirect,
		postrider.ClassDNS, postrider.ClassConnect, postrider.ClassTLS, postrider.ClassTimeout,
		postrider.ClassReset, postrider.ClassProtocol, postrider.ClassBlocked, postrider.ClassProxy:
		return postrider.Retryable
	}
	return postrider.Retryable
}
