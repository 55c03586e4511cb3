package eventstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

const (
	router = "router"
	// maxAckPending bounds the events that all routers together have in their hands, of all segments
	// together.
	maxAckPending = 8192
)

// checkpoint is the stored value: everything up to Floor of an incarnation is routed.
type checkpoint struct {
	Incarnation string `json:"incarnation"`
	Floor       uint64 `json:"floor"`
}

// Router is the segment's durable consumer, which all routers share. If it is gone it is made again at
// the segment's checkpoint, and nowhere else: from the first event it would repeat what was delivered
// long ago, from new ones it would lose what was not. A router consumes every segment, and what it asks
// for ahead of its handler is bounded over all of them.
func (s *Segment) Router(ctx context.Context) (*stream.Consumer, error) {
	con, err := s.c.NewConsumer(ctx, s.name, router, s.ensureRouter)
	if err != nil {
		return nil, err
	}
	return con.WithBatch(stream.DefaultBatch / s.share), nil
}

func (s *Segment) ensureRouter(ctx context.Context) error {
	js := s.c.JetStream()
	cfg := s.routerConfig()
	con, err := js.Consumer(ctx, s.name, router)
	if err == nil {
		return s.updateRouter(ctx, con.CachedInfo().Config, cfg)
	}
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	last, _, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	if last.Incarnation == s.incarnation && last.Floor > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, last.Floor+1
	}
	_, err = js.CreateConsumer(ctx, s.name, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return nil // another router was quicker
	}
	return err
}

func (s *Segment) routerConfig() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: router, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait,
		MaxAckPending: maxAckPending / s.share, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverAllPolicy,
	}
}

// updateRouter brings what can be changed of the standing durable to the configuration. Where it
// began stays as it is.
func (s *Segment) updateRouter(ctx context.Context, standing, want jetstream.ConsumerConfig) error {
	if standing.AckWait == want.AckWait && standing.MaxAckPending == want.MaxAckPending && standing.MaxDeliver == want.MaxDeliver {
		return nil
	}
	standing.AckWait, standing.MaxAckPending, standing.MaxDeliver = want.AckWait, want.MaxAckPending, want.MaxDeliver
	_, err := s.c.JetStream().UpdateConsumer(ctx, s.name, standing)
	return err
}

// Backlog is how much waits to be routed.
type Backlog struct {
	// Waiting is how many events no router has taken.
	Waiting uint64
	// Done is how many were ever taken and acknowledged, or are gone.
	Done uint64
}

// Backlog asks the leaders how much waits to be routed, in all segments together; everything, if no
// router was ever there.
func (s *Stream) Backlog(ctx context.Context) (Backlog, error) {
	var sum Backlog
	for _, seg := range s.segments {
		b, err := seg.backlog(ctx)
		if err != nil {
			return Backlog{}, err
		}
		sum.Waiting, sum.Done = sum.Waiting+b.Waiting, sum.Done+b.Done
	}
	return sum, nil
}

func (s *Segment) backlog(ctx context.Context) (Backlog, error) {
	info, err := s.c.ConsumerInfo(ctx, s.name, router)
	if errors.Is(err, stream.ErrNotFound) {
		usage, err := s.Usage(ctx)
		return Backlog{Waiting: usage.Messages}, err
	}
	if err != nil {
		return Backlog{}, err
	}
	return Backlog{Waiting: info.Pending, Done: info.Done()}, nil
}

// Checkpoint remembers that every event of the segment up to floor is routed. It only moves forward.
func (s *Segment) Checkpoint(ctx context.Context, floor uint64) error {
	last, revision, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	if last.Incarnation == s.incarnation && last.Floor >= floor {
		return nil
	}
	value, err := json.Marshal(checkpoint{Incarnation: s.incarnation, Floor: floor})
	if err != nil {
		return err
	}
	// By compare-and-set: of two routers that write at once, the one that lost writes again soon.
	_, err = s.checkpoints.Put(ctx, router+s.suffix, value, revision)
	if err != nil && !errors.Is(err, bucket.ErrConflict) {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// checkpoint reads what its leader holds, so that a replica that is behind cannot take routing
// back.
func (s *Segment) checkpoint(ctx context.Context) (checkpoint, uint64, error) {
	entry, err := s.checkpoints.Get(ctx, router+s.suffix)
	if errors.Is(err, bucket.ErrNotFound) {
		return checkpoint{}, entry.Revision, nil
	}
	if err != nil {
		return checkpoint{}, 0, fmt.Errorf("read checkpoint: %w", err)
	}
	var c checkpoint
	if err := json.Unmarshal(entry.Value, &c); err != nil {
		return checkpoint{}, 0, fmt.Errorf("read checkpoint: %w", err)
	}
	return c, entry.Revision, nil
}
