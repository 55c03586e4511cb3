package postrider

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
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

// DeliveryID names one event for one webhook: "dlv_" + the event's time and a hash of (event, webhook,
// replay job), so routing twice yields one delivery.
type DeliveryID string

// ReplayID names a job that makes deliveries anew: "rpl_" + ULID.
type ReplayID string

// AttemptID names one HTTP request of a delivery: "att_" + ULID.
type AttemptID string

// Prefixes of the public ids.
const (
	accountPrefix  = "acc_"
	eventPrefix    = "evt_"
	webhookPrefix  = "wh_"
	deliveryPrefix = "dlv_"
	attemptPrefix  = "att_"
	replayPrefix   = "rpl_"
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

// NewReplayID returns a fresh replay id.
func NewReplayID() ReplayID { return ReplayID(replayPrefix + ulid.Make().String()) }

// DeliveryIDFor is the deterministic id of event's delivery to webhook. Replay is the id of the
// replay job that asked for the delivery, and empty for the delivery made by routing.
//
// It stands for a UUID (version 8, RFC 9562) that begins with the event's time, as a ULID does, so that
// ids of one time lie together wherever they are sorted; 74 bits of the hash follow. The time of an
// event id that is malformed is the zero one.
func DeliveryIDFor(event EventID, webhook WebhookID, replay string) DeliveryID {
	// The lengths are part of the hash, so that no two triples give the same bytes.
	b := make([]byte, 0, 128)
	for _, s := range [...]string{string(event), string(webhook), replay} {
		b = append(append(strconv.AppendInt(b, int64(len(s)), 10), ':'), s...)
	}
	hash := sha256.Sum256(b)
	u := uuid.UUID(hash[:16])
	made, _ := event.ULID()
	copy(u[:6], made[:6])
	return DeliveryIDOf(version8(u))
}

// DeliveryIDOf is the delivery id that a UUID stands for.
func DeliveryIDOf(u uuid.UUID) DeliveryID {
	return DeliveryID(idEncoding.AppendEncode([]byte(deliveryPrefix), u[:]))
}

// EventIDOf is the event id that a ULID stands for.
func EventIDOf(u ulid.ULID) EventID {
	var text [len(eventPrefix) + ulid.EncodedSize]byte
	copy(text[:], eventPrefix)
	_ = u.MarshalTextTo(text[len(eventPrefix):]) // it fails for another size only
	return EventID(text[:])
}

// ULID is the ULID that the id stands for; ok is false if the id is malformed.
func (id EventID) ULID() (u ulid.ULID, ok bool) { return parseULID(string(id), eventPrefix) }

// WebhookIDOf is the webhook id that a ULID stands for.
func WebhookIDOf(u ulid.ULID) WebhookID { return WebhookID(webhookPrefix + u.String()) }

// ULID is the ULID that the id stands for; ok is false if the id is malformed.
func (id WebhookID) ULID() (u ulid.ULID, ok bool) { return parseULID(string(id), webhookPrefix) }

func parseULID(id, prefix string) (u ulid.ULID, ok bool) {
	s, ok := strings.CutPrefix(id, prefix)
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

// Valid reports whether the id has the form of a replay id.
func (id ReplayID) Valid() bool { return validULID(string(id), replayPrefix) }

// Valid reports whether the id has the form of a delivery id.
func (id DeliveryID) Valid() bool {
	s, ok := strings.CutPrefix(string(id), deliveryPrefix)
	if !ok {
		return false
	}
	b, err := idEncoding.DecodeString(s)
	return err == nil && len(b) == 16
}

// UUID is the UUID that the id stands for, for the wire formats that name a call by UUID; DeliveryIDOf is
// the way back. An id that was made before they stood for UUIDs, which a retry may have, gives a UUID of
// version 8 all the same, and one that is malformed the zero UUID.
func (id DeliveryID) UUID() uuid.UUID {
	s, _ := strings.CutPrefix(string(id), deliveryPrefix)
	u, err := idEncoding.DecodeString(s)
	if err != nil || len(u) != len(uuid.UUID{}) {
		return uuid.UUID{}
	}
	return version8(uuid.UUID(u))
}

// UUID is the event's id as a UUID (version 8, RFC 9562), for the wire formats that name an event
// by UUID. Equal ids give equal UUIDs.
func (id EventID) UUID() uuid.UUID {
	sum := sha256.Sum256([]byte(id))
	return version8(uuid.UUID(sum[:16]))
}

// version8 marks a UUID as one of a form of our own (RFC 9562, section 5.8).
func version8(u uuid.UUID) uuid.UUID {
	u[6] = (u[6] & 0x0f) | 0x80
	u[8] = (u[8] & 0x3f) | 0x80
	return u
}

func validULID(id, prefix string) bool {
	_, ok := parseULID(id, prefix)
	return ok
}
