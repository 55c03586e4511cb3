// Package dedup owns every Redis key under postrider:dedup. It remembers which deduplication
// keys were used within their window, so that publishing the same event twice stores it once,
// and settles who publishes when several ask at the same time.
//
// It is an index, never the record: the stream EVENTS is. It may lose everything at any moment.
// What it loses is how far back a repeat is seen: until the window is rebuilt from EVENTS, only
// the record's own window of message ids holds, and every answer says so (Result.Degraded).
//
// A key's life: absent -> pending (Claim) -> finished (Finish) -> absent when its window ends. A
// pending key whose holder is silent for longer than the takeover time passes to the next one
// who asks, together with its event id; a pending key is given up (Release) only by a holder who
// knows that nothing was stored. Every step after the claim is a compare-and-set on the claim's
// token, so a holder who comes back late changes nothing.
package dedup

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Key is the hash of an account and a deduplication key of that account.
type Key [16]byte

// KeyOf hashes the account with the key. The lengths are part of the hash, so that no two pairs
// give the same bytes, and two accounts may use the same key.
func KeyOf(account postrider.AccountID, key string) Key {
	buf := make([]byte, 0, 8+len(account)+len(key))
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(account)))
	buf = append(buf, account...)
	buf = append(buf, key...)
	sum := sha256.Sum256(buf)
	return Key(sum[:16])
}

// Fingerprint is a hash of everything the producer said, to tell a repeat from a conflict.
type Fingerprint [16]byte

// Token names one claim. It is random, so no two holders of a key have the same.
type Token [8]byte

// NewToken returns a fresh token.
func NewToken() (t Token) {
	_, _ = rand.Read(t[:]) // never fails: crypto/rand crashes the program instead
	return t
}

// Claim asks for a key.
type Claim struct {
	Key Key
	// Account whose key it is.
	Account     postrider.AccountID
	Fingerprint Fingerprint
	// Token names the claim to Finish and Release. Fresh for each Claim of a publish but the
	// same when it asks again.
	Token Token
	// Event is the id that the event gets if the key is free.
	Event ulid.ULID
	// Window is how long the key deduplicates.
	Window time.Duration
	// Again is set when an earlier Claim of the same publish was answered with Pending.
	Again bool
}

// Outcome is what became of a claim.
type Outcome int

// The outcomes of a claim.
const (
	// Claimed means that the key was free and is the caller's now.
	Claimed Outcome = iota + 1
	// TakenOver means that the key is the caller's now, after an earlier holder was silent for
	// longer than the takeover time. That one may have stored the event under Result.Event.
	TakenOver
	// Duplicate means that an event with the same fingerprint is stored: Result.Event.
	Duplicate
	// Conflict means that an event with another fingerprint is stored: Result.Event.
	Conflict
	// Pending means that somebody else is publishing, or that the index has to look again; ask
	// again after a pause.
	Pending
	// Blind means that the index could not be asked. The publish goes on under the record's own
	// window.
	Blind
)

// String is the outcome's name, for logs and metrics.
func (o Outcome) String() string {
	switch o {
	case Claimed:
		return "claimed"
	case TakenOver:
		return "taken_over"
	case Duplicate:
		return "duplicate"
	case Conflict:
		return "conflict"
	case Pending:
		return "pending"
	case Blind:
		return "blind"
	}
	return fmt.Sprintf("outcome(%d)", int(o))
}

// Result answers a claim.
type Result struct {
	Outcome Outcome
	// Event is the id to publish under (Claimed, TakenOver, Blind), or of the stored event.
	Event ulid.ULID
	// Sequence is the stored event's place in its account's segment of EVENTS (Duplicate, Conflict).
	Sequence uint64
	// Age is how long ago the key was first claimed (TakenOver): the earliest moment at which
	// the event may have been stored.
	Age time.Duration
	// Degraded means that the answer does not rest on the key's whole window.
	Degraded bool
}

// Finished says that a claim's event is stored.
type Finished struct {
	Key Key
	// Account whose key it is.
	Account     postrider.AccountID
	Token       Token
	Fingerprint Fingerprint
	Event       ulid.ULID
	Sequence    uint64
	Window      time.Duration
}

// Released gives a claim up.
type Released struct {
	Key   Key
	Token Token
}

// ErrAway means that the index could not be reached or did not answer in time.
var ErrAway = errors.New("the deduplication index is away")

// Index is the window of used keys. Implementations are safe for concurrent use, never block
// for longer than their configured timeout, and keep no reference to their arguments.
type Index interface {
	// Claim asks for each key and fills results, which has the same length. It does not fail:
	// what cannot be asked is Blind.
	Claim(ctx context.Context, claims []Claim, results []Result)
	// Finish turns claims into finished keys. An error means that some may still be pending;
	// they then pass to whoever asks next, who finds the event in the record.
	Finish(ctx context.Context, done []Finished) error
	// Release frees keys, only for claims whose event was certainly not stored. An error means
	// that some keys may stay pending until they can be taken over.
	Release(ctx context.Context, released []Released) error
	// Degraded says why the window is not whole at this moment; ok is false if it is.
	Degraded() (reason string, ok bool)
	// Start begins the index's own work, rebuilding the window where needed, and returns.
	Start(ctx context.Context) error
	// Stop ends it and waits until it has ended.
	Stop(ctx context.Context) error
}

// Events is what the window is rebuilt from: the record of events.
type Events interface {
	// Incarnation changes when the account's segment is made anew or restored. A finished key of
	// another incarnation does not vouch for its event.
	Incarnation(account postrider.AccountID) string
	// Scan gives fn the events stored since from, those of each account in order, up to the last
	// one stored when it was called.
	Scan(ctx context.Context, from time.Time, fn func(seq uint64, ev *recordv1.Event) error) error
	// TrimmedSince says whether events stored since from may have been removed to make room, so
	// that Scan does not give them.
	TrimmedSince(ctx context.Context, from time.Time) (bool, error)
}

// Config is what both implementations share.
type Config struct {
	// Takeover is how long a claim's holder may be silent. Defaults to 15 s.
	Takeover time.Duration
	// Longest is the longest window of any account, which bounds how far back a rebuild reads.
	// Defaults to 24 h.
	Longest time.Duration
	// Window is the window of an account's keys; nil means Longest for all.
	Window func(account postrider.AccountID) time.Duration
}

func (c Config) validate() error {
	if c.Takeover <= 0 || c.Longest <= c.Takeover {
		return fmt.Errorf("takeover (%s) must be positive and below the longest window (%s)", c.Takeover, c.Longest)
	}
	return nil
}

// window is the window of the account's keys, never above Longest.
func (c Config) window(account postrider.AccountID) time.Duration {
	if c.Window == nil {
		return c.Longest
	}
	return min(c.Window(account), c.Longest)
}

// incarnationOf packs the incarnation of an account's segment into the eight bytes that values have
// for it.
func incarnationOf(events Events, account postrider.AccountID) (in [8]byte) {
	sum := sha256.Sum256([]byte(events.Incarnation(account)))
	return [8]byte(sum[:8])
}
