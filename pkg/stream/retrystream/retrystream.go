// Package retrystream owns the streams RETRIES_<s>: deliveries that wait, one record each, and,
// once a record is released or has fired, the due delivery. A record is a JetStream message
// schedule (ADR-51 of NATS), so it turns into a due delivery by itself when no scheduler does it
// in time. The streams may lose nothing. A stream with schedules cannot refuse when it is full, so
// this package counts and refuses.
package retrystream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const (
	durable = "dispatcher"
	// maxAckPending bounds the due deliveries that a dispatcher has in its hands for one shard.
	maxAckPending = 4096
	// maxInFlight bounds the calls of Put, Replace and Release whose done was not called.
	maxInFlight = 4096
	// HoldFor is how long a held record waits before it fires, is met by a dispatcher and written
	// back. It bounds what a lost wake-up can cost, and nothing else.
	HoldFor = time.Hour
)

// Headers of a record beside the server's own.
const (
	headerDue      = "Postrider-Due"      // Unix milliseconds, without the grace
	headerKind     = "Postrider-Kind"     // number of the RetryKind
	headerPut      = "Postrider-Put"      // names the call that stored the record
	headerReleased = "Postrider-Released" // on a due message: a scheduler released it
	headerMoved    = "Postrider-Moved"    // on a due message: it was released to be put elsewhere, whenever it is due
)

// Config is what the streams may hold.
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
// is stale. Use errors.As with *SupersededError for that record.
var ErrSuperseded = errors.New("a later record of the delivery stands")

// SupersededError is ErrSuperseded with the record that stands.
type SupersededError struct{ Standing Record }

// Error names the record that stands.
func (e *SupersededError) Error() string {
	return fmt.Sprintf("%v: sequence %d", ErrSuperseded, e.Standing.Sequence)
}

// Is makes the error an ErrSuperseded.
func (e *SupersededError) Is(target error) bool { return target == ErrSuperseded }

// Place is where a record stands.
type Place struct {
	// Shard whose stream holds it.
	Shard int
	// Sequence in that stream.
	Sequence uint64
}

// Record is a stored record. Its identity is its shard and sequence.
type Record struct {
	// Shard whose stream holds it.
	Shard int
	// Sequence in that stream.
	Sequence uint64
	// Retry is the record itself.
	Retry *recordv1.Retry
}

// Streams are the retry streams of all shards. They are safe for use by many goroutines.
type Streams struct {
	c      *stream.Client
	cfg    Config
	adding sync.Mutex               // held by the one that adds a shard
	shards atomic.Pointer[[]*shard] // by number; replaced, never changed
	slots  chan struct{}            // of calls in flight

	run   string // names this process's calls
	calls atomic.Uint64

	ctx    context.Context //nolint:containedctx // ends with Close; what is resolved in the background lives until then
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// shard is one stream.
type shard struct {
	number     int
	publisher  *stream.Publisher
	count      counter
	anchored   atomic.Int64 // when the anchor was written last, in Unix nanoseconds
	unanchored atomic.Int64 // releases since then
}

// Ensure creates the streams.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Streams, error) {
	for n := range c.Layout().Streams {
		if _, err := c.EnsureStream(ctx, streamConfig(n)); err != nil {
			return nil, err
		}
	}
	return Open(ctx, c, cfg), nil
}

// Open is Ensure of streams that are there, and stay as they are.
func Open(ctx context.Context, c *stream.Client, cfg Config) *Streams {
	s := &Streams{c: c, cfg: cfg, slots: make(chan struct{}, maxInFlight), run: rand.Text()}
	s.shards.Store(&[]*shard{})
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// Grow makes the streams of shards that are not there, up to so many, like those of the first. Whoever
// changes the number of shards calls it before.
func Grow(ctx context.Context, c *stream.Client, shards int) error {
	for n := 1; n < shards; n++ {
		err := c.CopyStream(ctx, name(0), func(cfg *jetstream.StreamConfig) { cfg.Name, cfg.Subjects = name(n), subjects(n) })
		if err != nil {
			return err
		}
	}
	return nil
}

// at is a shard's stream. There may be more than there were at the start.
func (s *Streams) at(n int) *shard {
	if now := *s.shards.Load(); n < len(now) {
		return now[n]
	}
	s.adding.Lock()
	defer s.adding.Unlock()
	next := slices.Clone(*s.shards.Load())
	for k := len(next); k <= n; k++ {
		next = append(next, &shard{number: k, publisher: s.c.NewPublisher(name(k), 0)})
	}
	s.shards.Store(&next)
	return next[n]
}

func streamConfig(shard int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name(shard), Description: "deliveries that wait, and those that are due",
		Subjects:  subjects(shard),
		Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
		// No limit: a stream with schedules cannot refuse, and dropping the oldest would
		// drop retries silently.
		Discard: jetstream.DiscardOld, AllowDirect: true, AllowMsgSchedules: true,
	}
}

func subjects(shard int) []string {
	return []string{recordPrefix(shard) + "*.*.*", duePrefix(shard) + "*.*", anchorSubject(shard)}
}

// Inspect says how the streams of all shards, and their consumers, stand against what is wanted. It
// changes nothing.
func Inspect(ctx context.Context, c *stream.Client) ([]stream.Report, error) {
	var all []stream.Report
	for shard := range c.Layout().Streams {
		s, err1 := c.InspectStream(ctx, streamConfig(shard))
		con, err2 := c.InspectConsumer(ctx, name(shard), dueConfig(c, shard))
		if err := errors.Join(err1, err2); err != nil {
			return all, err
		}
		all = append(all, s, con)
	}
	return all, nil
}

func name(shard int) string         { return "RETRIES_" + strconv.Itoa(shard) }
func recordPrefix(shard int) string { return "retries." + strconv.Itoa(shard) + "." }
func duePrefix(shard int) string    { return "due." + strconv.Itoa(shard) + "." }

func recordSubject(shard int, d *recordv1.Delivery) string {
	return recordPrefix(shard) + d.GetAccountId() + "." + d.GetWebhookId() + "." + d.GetId()
}

func dueSubject(shard int, d *recordv1.Delivery) string {
	return duePrefix(shard) + d.GetAccountId() + "." + d.GetWebhookId()
}

// Layout is into how many shards deliveries are split now.
func (s *Streams) Layout() postrider.Layout { return s.c.Layout() }

// Grace is how long after its due time a record fires by itself.
func (s *Streams) Grace() time.Duration { return s.cfg.Grace }

// Close ends the package's goroutines. What is in flight is reported as stream.ErrUnknown.
func (s *Streams) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	for _, sh := range *s.shards.Load() {
		sh.publisher.Close()
	}
	s.wg.Wait()
}

// background runs fn on a goroutine that Close waits for; false after Close.
func (s *Streams) background(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(fn)
	return true
}

// record is a message that stores r on its subject when the subject's last sequence is expected.
func (s *Streams) record(sh *shard, r *recordv1.Retry, expected uint64, call string) (*nats.Msg, error) {
	data, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode retry of %s: %w", r.GetDelivery().GetId(), err)
	}
	at := r.GetDueTime().AsTime().Add(s.cfg.Grace)
	if r.GetKind() == recordv1.RetryKind_RETRY_KIND_HELD {
		at = time.Now().Add(HoldFor)
	}
	return &nats.Msg{
		Subject: recordSubject(sh.number, r.GetDelivery()), Data: data,
		Header: nats.Header{
			jetstream.ScheduleHeader:            {"@at " + at.UTC().Format(time.RFC3339Nano)},
			jetstream.ScheduleTargetHeader:      {dueSubject(sh.number, r.GetDelivery())},
			jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(expected, 10)},
			headerDue:                           {strconv.FormatInt(r.GetDueTime().AsTime().UnixMilli(), 10)},
			headerKind:                          {strconv.Itoa(int(r.GetKind()))},
			headerPut:                           {call},
		},
	}, nil
}

// home is the stream that new records of the delivery go to.
func (s *Streams) home(d *recordv1.Delivery) *shard {
	return s.at(s.c.Layout().Home(postrider.WebhookID(d.GetWebhookId())))
}

// call names one call, so that a record whose acknowledgement was lost is known again.
func (s *Streams) call() string { return s.run + "." + strconv.FormatUint(s.calls.Add(1), 36) }

// decode reads a stored record.
func decode(shard int, m *stream.Stored) (*Record, error) {
	r := &recordv1.Retry{}
	if err := proto.Unmarshal(m.Data, r); err != nil {
		return nil, fmt.Errorf("decode retry %d of shard %d: %w", m.Sequence, shard, err)
	}
	return &Record{Shard: shard, Sequence: m.Sequence, Retry: r}, nil
}

// isRecord tells a record from a due message, which the stream holds too.
func isRecord(subject string) bool { return strings.HasPrefix(subject, "retries.") }
