package eventstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

const (
	router = "router"
	// maxAckPending bounds the events that all routers together have in their hands.
	maxAckPending = 8192
)

// checkpoint is the stored value: everything up to Floor of an incarnation is routed.
type checkpoint struct {
	Incarnation string `json:"incarnation"`
	Floor       uint64 `json:"floor"`
}

// Router is the durable consumer that all routers share. If it is gone it is made again at the
// checkpoint, and nowhere else: from the first event it would repeat what was delivered long ago,
// from new ones it would lose what was not.
func (s *Stream) Router(ctx context.Context) (*stream.Consumer, error) {
	return s.c.NewConsumer(ctx, name, router, s.ensureRouter)
}

func (s *Stream) ensureRouter(ctx context.Context) error {
	js := s.c.JetStream()
	_, err := js.Consumer(ctx, name, router)
	if err == nil || !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	cfg := jetstream.ConsumerConfig{
		Durable: router, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.AckWait,
		MaxAckPending: maxAckPending, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	last, _, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	if last.Incarnation == s.incarnation && last.Floor > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, last.Floor+1
	}
	_, err = js.CreateConsumer(ctx, name, cfg)
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return nil // another router was quicker
	}
	return err
}

// Checkpoint remembers that every event up to floor is routed. It only moves forward.
func (s *Stream) Checkpoint(ctx context.Context, floor uint64) error {
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
	if revision == 0 {
		_, err = s.checkpoints.Create(ctx, router, value)
	} else {
		_, err = s.checkpoints.Update(ctx, router, value, revision)
	}
	if err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

func (s *Stream) checkpoint(ctx context.Context) (checkpoint, uint64, error) {
	entry, err := s.checkpoints.Get(ctx, router)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return checkpoint{}, 0, nil
	}
	if err != nil {
		return checkpoint{}, 0, fmt.Errorf("read checkpoint: %w", err)
	}
	var c checkpoint
	if err := json.Unmarshal(entry.Value(), &c); err != nil {
		return checkpoint{}, 0, fmt.Errorf("read checkpoint: %w", err)
	}
	return c, entry.Revision(), nil
}
