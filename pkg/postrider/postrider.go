// Package postrider holds the words of the domain: ids, states, outcomes and the few rules that
// every service must agree on. It does no I/O and imports no other package of the project.
package postrider

// DeliveryState is where a delivery stands. pending -> delivered; pending -> waiting -> pending;
// pending or waiting -> held -> pending; any of these -> dead or cancelled; dead -> pending by redrive.
type DeliveryState string

// The states of a delivery.
const (
	Pending   DeliveryState = "pending"   // in a delivery stream, or being attempted
	Waiting   DeliveryState = "waiting"   // a retry record waits for its due time
	Held      DeliveryState = "held"      // waits because its webhook is paused, disabled or tripped
	Delivered DeliveryState = "delivered" // a 2xx was received and recorded
	Dead      DeliveryState = "dead"      // will not be tried again; a dead letter holds it
	Cancelled DeliveryState = "cancelled" // ended on request, or with its webhook
)

// Ended reports whether the state is an end state. End states absorb: nothing but a redrive
// leads out of them.
func (s DeliveryState) Ended() bool { return s == Delivered || s == Dead || s == Cancelled }

// Rank orders what the journal says of one delivery, whose entries may come twice and in any
// order: the highest rank stands. A 2xx wins over a cancel, and a cancel over a dead letter.
func (s DeliveryState) Rank() int {
	switch s {
	case Delivered:
		return 6
	case Cancelled:
		return 5
	case Dead:
		return 4
	case Held, Waiting, Pending:
		return 1
	}
	return 0
}

// Outcome is the result of one attempt.
type Outcome string

// The outcomes of an attempt.
const (
	Succeeded Outcome = "succeeded" // 2xx
	Retryable Outcome = "retryable" // any failure that the retry schedule may mend
	Permanent Outcome = "permanent" // could not be sent as it is; never tried again
	Gone      Outcome = "gone"      // 410: the receiver wants no more; the webhook is disabled
)

// ErrorClass says why an attempt failed without, or in spite of, an HTTP response.
type ErrorClass string

// The error classes of attempts.
const (
	ClassNone       ErrorClass = ""                // the attempt succeeded
	ClassStatus     ErrorClass = "http_status"     // a status other than 2xx, 3xx, 410
	ClassGone       ErrorClass = "gone"            // 410
	ClassRedirect   ErrorClass = "redirect"        // 3xx, never followed
	ClassDNS        ErrorClass = "dns"             // the name did not resolve
	ClassConnect    ErrorClass = "connect"         // refused, unreachable
	ClassTLS        ErrorClass = "tls"             // handshake or certificate
	ClassTimeout    ErrorClass = "timeout"         // any of the attempt's time limits
	ClassReset      ErrorClass = "reset"           // the connection ended before a full response
	ClassProtocol   ErrorClass = "protocol"        // the answer was not HTTP
	ClassBlocked    ErrorClass = "ssrf_blocked"    // a forbidden address; no packet left
	ClassProxy      ErrorClass = "proxy"           // the forward proxy failed, not the receiver
	ClassUnrendered ErrorClass = "cannot_render"   // the profile cannot render the event
	ClassURLTooLong ErrorClass = "url_too_long"    // the rendered URL is over the limit
	ClassGoneEvent  ErrorClass = "payload_missing" // the payload outlived its retention
)

// WebhookState says whether a webhook's deliveries are attempted.
type WebhookState string

// The states of a webhook. Deleted appears only in the configuration's tombstones.
const (
	WebhookActive   WebhookState = "active"
	WebhookPaused   WebhookState = "paused"
	WebhookDisabled WebhookState = "disabled"
	WebhookDeleted  WebhookState = "deleted"
)

// Scope is what an API key may do.
type Scope string

// The scopes of API keys. Admin keys belong to the operator, not to an account, and may do all.
const (
	ScopePublish Scope = "publish"
	ScopeManage  Scope = "manage"
	ScopeRead    Scope = "read"
	// ScopePayloads shows what events and attempts hold. Without it, reading masks that.
	ScopePayloads Scope = "payloads"
	ScopeAdmin    Scope = "admin"
)

// Classes of accounts, for metrics and objectives. An account's class changes nothing about its
// deliveries, but for whether its producers are the operator's own.
const (
	AccountFree     = "free"
	AccountStandard = "standard"
	AccountPremium  = "premium"
	AccountInternal = "internal"
)

// AccountClass is a class as metrics name it: standard for accounts that have none, and for words
// that only a later version knows.
func AccountClass(class string) string {
	switch class {
	case AccountFree, AccountPremium, AccountInternal:
		return class
	}
	return AccountStandard
}
