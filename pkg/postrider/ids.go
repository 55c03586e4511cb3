package postrider

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"
)

// AccountID names an account, the isolation boundary that owns everything else: "acc_" + ULID.
type AccountID string

// EventID names an accepted event: "evt_" + ULID. The ULID's time is the time at which the
// id was chosen (when the deduplication key was claimed), in UTC, to the millisecond.
type EventID string

// WebhookID names a webhook and is never reused: "wh_" + ULID.
type WebhookID string

// DeliveryID names one event for one webhook: "dlv_" + hash of (event, webhook, replay job),
// so routing twice yields one delivery.
type DeliveryID string

// AttemptID names one HTTP request of a delivery: "att_" + ULID.
type AttemptID string

// Prefixes of the public ids.
const (
	accountPrefix  = "acc_"
	eventPrefix    = "evt_"
	webhookPrefix  = "wh_"
	deliveryPrefix = "dlv_"
	attemptPrefix  = "att_"
)

// idEncoding is lower-case base32 without padding: case-insensitive systems keep it intact,
// and it has no character that a NATS subject token forbids.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewAccountID returns a fresh account id.
func NewAccountID() AccountID { return AccountID(accountPrefix + ulid.Make().String()) }

// NewEventID returns a fresh event id.
func NewEventID() EventID { return EventID(eventPrefix + ulid.Make().String()) }

// NewWebhookID returns a fresh webhook id.
func NewWebhookID() WebhookID { return WebhookID(webhookPrefix + ulid.Make().String()) }

// NewAttemptID returns a fresh attempt id.
func NewAttemptID() AttemptID { return AttemptID(attemptPrefix + ulid.Make().String()) }

// DeliveryIDFor is the deterministic id of event's delivery to webhook. Replay is the id of the
// replay job that asked for the delivery, and empty for the delivery made by routing.
func DeliveryIDFor(event EventID, webhook WebhookID, replay string) DeliveryID {
	h := sha256.New()
	// The lengths are part of the hash, so that no two triples give the same bytes.
	_, _ = fmt.Fprintf(h, "%d:%s%d:%s%d:%s", len(event), event, len(webhook), webhook, len(replay), replay)
	return DeliveryID(deliveryPrefix + idEncoding.EncodeToString(h.Sum(nil)[:16]))
}

// EventIDOf is the event id that a ULID stands for.
func EventIDOf(u ulid.ULID) EventID {
	var text [len(eventPrefix) + ulid.EncodedSize]byte
	copy(text[:], eventPrefix)
	_ = u.MarshalTextTo(text[len(eventPrefix):]) // it fails for another size only
	return EventID(text[:])
}

// ULID is the ULID that the id stands for; ok is false if the id is malformed.
func (id EventID) ULID() (u ulid.ULID, ok bool) {
	s, ok := strings.CutPrefix(string(id), eventPrefix)
	if !ok {
		return u, false
	}
	u, err := ulid.ParseStrict(s)
	return u, err == nil
}

// Time is the moment at which the id was chosen; ok is false if the id is malformed.
func (id EventID) Time() (t time.Time, ok bool) {
	u, ok := id.ULID()
	if !ok {
		return time.Time{}, false
	}
	return ulid.Time(u.Time()), true
}

// Valid reports whether the id has the form of an event id.
func (id EventID) Valid() bool { _, ok := id.Time(); return ok }

// Valid reports whether the id has the form of an account id.
func (id AccountID) Valid() bool { return validULID(string(id), accountPrefix) }

// Valid reports whether the id has the form of a webhook id.
func (id WebhookID) Valid() bool { return validULID(string(id), webhookPrefix) }

// Valid reports whether the id has the form of a delivery id.
func (id DeliveryID) Valid() bool {
	s, ok := strings.CutPrefix(string(id), deliveryPrefix)
	if !ok {
		return false
	}
	b, err := idEncoding.DecodeString(s)
	return err == nil && len(b) == 16
}

// UUID is the delivery's id as a UUID (version 8, RFC 9562), for the wire formats that name a
// call by UUID. Equal ids give equal UUIDs.
func (id DeliveryID) UUID() uuid.UUID { return uuidOf(string(id)) }

// UUID is the event's id as a UUID (version 8, RFC 9562), for the wire formats that name an event
// by UUID. Equal ids give equal UUIDs.
func (id EventID) UUID() uuid.UUID { return uuidOf(string(id)) }

func uuidOf(id string) uuid.UUID {
	sum := sha256.Sum256([]byte(id))
	var u uuid.UUID
	copy(u[:], sum[:16])
	u[6] = (u[6] & 0x0f) | 0x80
	u[8] = (u[8] & 0x3f) | 0x80
	return u
}

func validULID(id, prefix string) bool {
	s, ok := strings.CutPrefix(id, prefix)
	if !ok {
		return false
	}
	_, err := ulid.ParseStrict(s)
	return err == nil
}
