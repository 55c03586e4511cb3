package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// followHeartbeat is how often the server shows an idle follower that it is there. After two
	// of them missed, the consumer is made anew.
	followHeartbeat = time.Second
	followExpiry    = 30 * time.Second
	followBatch     = 256
	// inactive is when the server drops a consumer that nobody asks any more.
	inactive = 30 * time.Second
	// makeTimeout bounds making a consumer, and dropTimeout dropping it.
	makeTimeout = 5 * time.Second
	dropTimeout = time.Second
	maxBackoff  = time.Second
)

// Follower gives every message of a bucket to its owner, in the order of revisions and none twice,
// and then those that come. It goes on where it was after a reconnect or a restart of the server.
// It does not promise to be quick, nor that the server it reads from is not behind: compare with
// Position for that.
type Follower struct {
	bucket *Bucket
	begin  func(renewed bool)
	handle func(Entry)
	orders chan error
	failed func(error)

	// The last message that was handled, owned by Run.
	last     uint64
	lastTime time.Time
}

// Orders to a running follower.
var (
	errResume  = errors.New("go on")
	errRescan  = errors.New("read everything again")
	errRenewed = errors.New("the bucket is another one")
)

// NewFollower makes a follower; Run starts it. It calls begin before it reads the bucket from its
// beginning, with renewed true if what it read before may have come from another bucket of that
// name, whose revisions mean nothing now. It calls handle for each message, and failed for each
// failure that it then mends. All three are called from Run's goroutine.
func (b *Bucket) NewFollower(begin func(renewed bool), handle func(Entry), failed func(error)) *Follower {
	return &Follower{bucket: b, begin: begin, handle: handle, failed: failed, orders: make(chan error, 1)}
}

// Resume makes the consumer anew, from the last message that was handled.
func (f *Follower) Resume() { f.order(errResume) }

// Rescan reads the whole bucket again, for an owner that may have missed a deletion. With renewed
// it is because the bucket is another one.
func (f *Follower) Rescan(renewed bool) {
	if renewed {
		f.order(errRenewed)
		return
	}
	f.order(errRescan)
}

// order leaves an order for Run. One waits at most; a stronger one that comes meanwhile is given
// again by whoever finds that it is still needed.
func (f *Follower) order(what error) {
	select {
	case f.orders <- what:
	default:
	}
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	// A reconnect means that messages may have been missed and that the consumer, which lives in
	// the server's memory, may be gone: waiting for missed heartbeats would take seconds.
	status := f.bucket.nc.StatusChanged(nats.CONNECTED)
	defer f.bucket.nc.RemoveStatusListener(status)

	f.begin(false)
	backoff := 10 * time.Millisecond
	for ctx.Err() == nil {
		before := f.last
		err := f.watch(ctx, status)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errResume):
			continue
		case errors.Is(err, errRescan), errors.Is(err, errRenewed):
			f.last = 0
			f.begin(errors.Is(err, errRenewed))
			continue
		}
		f.failed(err)
		if f.last != before {
			backoff = 10 * time.Millisecond
		}
		if !f.rest(ctx, status, backoff) {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// rest waits before the next try, less if the connection comes back; false if ctx ended.
func (f *Follower) rest(ctx context.Context, status <-chan nats.Status, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-status:
	case <-ctx.Done():
		return false
	}
	return true
}

// watch makes a consumer and handles its messages until something is wrong with it.
func (f *Follower) watch(ctx context.Context, status <-chan nats.Status) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listening := make(chan struct{})
	defer func() { cancel(nil); <-listening }()
	go func() {
		defer close(listening)
		select {
		case <-status:
			cancel(errResume)
		case what := <-f.orders:
			cancel(what)
		case <-ctx.Done():
		}
	}()
	consumer, err := f.makeConsumer(ctx)
	if err != nil {
		return because(ctx, err)
	}
	messages, err := consumer.Messages(
		jetstream.PullMaxMessages(followBatch), jetstream.PullExpiry(followExpiry), jetstream.PullHeartbeat(followHeartbeat),
	)
	if err != nil {
		return fmt.Errorf("read bucket %s: %w", f.bucket.name, err)
	}
	defer f.drop(ctx, consumer, messages)
	return because(ctx, f.read(ctx, messages))
}

// because is why ctx was cancelled, or err if it was not.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (f *Follower) makeConsumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: inactive,
		MaxDeliver:        1,
	}
	// From the last message itself and not from the one after it: see recognize.
	if f.last > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, f.last
	}
	consumer, err := f.bucket.stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("follow bucket %s: %w", f.bucket.name, err)
	}
	return consumer, nil
}

// drop ends the consumer; the server would drop it by itself later.
func (f *Follower) drop(ctx context.Context, consumer jetstream.Consumer, messages jetstream.MessagesContext) {
	messages.Stop()
	if !f.bucket.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	_ = f.bucket.stream.DeleteConsumer(ctx, consumer.CachedInfo().Name) // as said
}

// read handles messages. Those of one consumer are numbered from 1, so one that was lost on the
// way to us shows.
func (f *Follower) read(ctx context.Context, messages jetstream.MessagesContext) error {
	resumed := f.last > 0
	for n := uint64(1); ; n++ {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", f.bucket.name, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read bucket %s: %w", f.bucket.name, err)
		}
		if meta.Sequence.Consumer != n {
			return fmt.Errorf("read bucket %s: message %d came in place of %d", f.bucket.name, meta.Sequence.Consumer, n)
		}
		if resumed && n == 1 {
			if !f.recognize(meta) {
				return errRenewed
			}
			continue
		}
		f.handle(f.bucket.entry(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream, meta.Timestamp))
		f.last, f.lastTime = meta.Sequence.Stream, meta.Timestamp
	}
}

// recognize reports whether the first message of a resumed consumer is the last one that was
// handled. If it is not, it may only have been overwritten meanwhile; or the bucket was restored,
// or lost its end in a crash and wrote other messages under the same revisions, of which some
// would never be seen. Reading everything again is right in every case.
func (f *Follower) recognize(meta *jetstream.MsgMetadata) bool {
	return meta.Sequence.Stream == f.last && meta.Timestamp.Equal(f.lastTime)
}
