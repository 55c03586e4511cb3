// Package retrystream owns the streams RETRIES_<s>: the record of every delivery that waits.
// A record is a JetStream message schedule (ADR-51) on a subject of its own; releasing it is one
// publish that appends the due delivery and removes the record. It may lose nothing. If every
// scheduler is gone the server itself turns the record into a due delivery, late by the grace.
package retrystream

import (
	"context"
	"errors"
	"fmt"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
)

// Config bounds what waits.
type Config struct {
	MaxRecords int64         `conf:"max-records" help:"most records that wait on one shard; 0 for no limit"`
	Grace      time.Duration `conf:"grace" help:"how long after its due time a record fires by itself"`
}

// Default allows two million records per shard and a grace of 30 s.
func Default() Config { return Config{MaxRecords: 2_000_000, Grace: 30 * time.Second} }

// ErrGone says that the record is not there any more: released, replaced, fired or removed.
var ErrGone = errors.New("retry record is gone")

// ErrFull says that a shard holds as many records as it may. Nothing was stored.
var ErrFull = stream.ErrFull

// ErrSuperseded says that an equal or later attempt of the delivery waits already, so the call
// is stale. Use errors.As with *SupersededError for its sequence.
var ErrSuperseded = errors.New("a later record of the delivery stands")

// SupersededError is ErrSuperseded with the sequence of the record that stands.
type SupersededError struct{ Sequence uint64 }

// Error names the record that stands.
func (e *SupersededError) Error() string {
	return fmt.Sprintf("%v: sequence %d", ErrSuperseded, e.Sequence)
}

// Is makes the error an ErrSuperseded.
func (e *SupersededError) Is(target error) bool { return target == ErrSuperseded }

// Record is a stored record. Its identity is its shard and sequence.
type Record struct {
	// Shard whose stream holds it.
	Shard int
	// Sequence in that stream.
	Sequence uint64
	// Retry is the record itself.
	Retry *recordv1.Retry
}

// Streams are the retry streams of all shards.
type Streams struct{}

// Ensure creates the streams.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Streams, error) {
	return nil, errors.ErrUnsupported
}

// Shards is how many there are.
func (s *Streams) Shards() int { return 0 }

// Grace is how long after its due time a record fires by itself.
func (s *Streams) Grace() time.Duration { return 0 }

// Put stores a record; done gets its sequence. It is pipelined: many may be in flight, and done
// is called once for each, on a goroutine of the package; it must not block. An error returned
// by Put itself means that done will not be called.
//
// The record is written with an expected last sequence of zero on its subject, because releasing
// its predecessor removed it. If one stands there, an equal or later attempt means that this call
// is stale (SupersededError); an earlier one is replaced by compare-and-set.
func (s *Streams) Put(ctx context.Context, r *recordv1.Retry, done func(sequence uint64, err error)) error {
	return errors.ErrUnsupported
}

// Replace puts r in the place of old: hold, unhold, postpone. ErrGone if old is not there.
func (s *Streams) Replace(ctx context.Context, old Record, r *recordv1.Retry) (uint64, error) {
	return 0, errors.ErrUnsupported
}

// ReplaceAsync is Replace with many in flight; see Put for done.
func (s *Streams) ReplaceAsync(ctx context.Context, old Record, r *recordv1.Retry, done func(sequence uint64, err error)) error {
	return errors.ErrUnsupported
}

// Release makes the record a due delivery: one publish appends the due message and removes the
// record. Done gets ErrGone when the record is not there: released, replaced, fired or removed.
// See Put for done.
func (s *Streams) Release(ctx context.Context, r Record, done func(error)) error {
	return errors.ErrUnsupported
}

// Get reads a record by its sequence; ErrGone if it is not there.
func (s *Streams) Get(ctx context.Context, shard int, sequence uint64) (*Record, error) {
	return nil, errors.ErrUnsupported
}

// GetAll reads many records in one go. The result has the order of the sequences, with nil for
// each that is gone.
func (s *Streams) GetAll(ctx context.Context, shard int, sequences []uint64) ([]*Record, error) {
	return nil, errors.ErrUnsupported
}

// Last reads the record of a delivery, from the stream's leader; ErrGone if none waits.
func (s *Streams) Last(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, delivery postrider.DeliveryID) (*Record, error) {
	return nil, errors.ErrUnsupported
}

// Remove removes a record by its sequence, after the caller journalled why; ErrGone if it is not
// there.
func (s *Streams) Remove(ctx context.Context, r Record) error { return errors.ErrUnsupported }

// RemoveWebhook removes every record of a webhook up to and with a sequence, after the caller
// read and journalled them. It answers how many.
func (s *Streams) RemoveWebhook(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, upTo uint64) (int64, error) {
	return 0, errors.ErrUnsupported
}

// Filter narrows a scan. The zero value is everything; a webhook needs its account.
type Filter struct {
	// Account whose records are wanted.
	Account postrider.AccountID
	// Webhook whose records are wanted.
	Webhook postrider.WebhookID
}

// Scan gives the records of a shard from a sequence on to fn, in order of sequence, up to what
// was stored when it began. It stops at fn's first error and returns it.
func (s *Streams) Scan(ctx context.Context, shard int, filter Filter, from uint64, fn func(Record) error) error {
	return errors.ErrUnsupported
}

// Entry is what an index needs of a record.
type Entry struct {
	// Account that owns it.
	Account postrider.AccountID
	// Webhook it waits for.
	Webhook postrider.WebhookID
	// Delivery that waits.
	Delivery postrider.DeliveryID
	// Sequence of its record.
	Sequence uint64
	// Due time, without the grace.
	Due time.Time
	// Kind says why it waits.
	Kind recordv1.RetryKind
}

// ScanIndex gives an entry for every record of a shard to fn without decoding any, for the
// rebuild of an index. Entries may come out of order of sequence; fn is called by one goroutine.
func (s *Streams) ScanIndex(ctx context.Context, shard int, fn func(Entry) error) error {
	return errors.ErrUnsupported
}

// Due is the consumer of a shard's due deliveries.
func (s *Streams) Due(ctx context.Context, shard int) (*stream.Consumer, error) {
	return nil, errors.ErrUnsupported
}

// DecodeDue reads a due message. Fired says that the server turned the record into it, late by
// the grace, and no scheduler did.
func DecodeDue(m *stream.Msg) (r *recordv1.Retry, fired bool, err error) {
	return nil, false, errors.ErrUnsupported
}

// Count is how many records wait on a shard.
func (s *Streams) Count(ctx context.Context, shard int) (int64, error) {
	return 0, errors.ErrUnsupported
}

// Close ends the package's goroutines. What is in flight is reported as stream.ErrUnknown.
func (s *Streams) Close() {}
