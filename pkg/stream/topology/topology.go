// Package topology owns the bucket `topology`: into how many shards deliveries are split, which says in
// which stream a webhook's deliveries are. The bucket may be lost only together with the streams.
//
// The number changes in three steps while everything runs (ADR 0025). Change makes the new number the
// one that counts, after the streams of the new shards were made. Every process learns of it within
// moments, by Follow, and until it has it may put deliveries where they are not at home any more: a
// dispatcher that meets one hands it on. When nothing is left on a shard that its webhook has left,
// Settle forgets the number before.
package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

const (
	bucketName = "topology"
	key        = "shards"
)

// Errors of changes.
var (
	// ErrUnsettled says that the change before is not finished.
	ErrUnsettled = errors.New("the last change is not finished")
	// ErrNone says that no number is stored: no service has ever been started.
	ErrNone = errors.New("no number of shards is stored")
)

// stored is the value.
type stored struct {
	Version int `json:"version"`
	Shards  int `json:"shards"`
	Before  int `json:"before,omitempty"`
	Streams int `json:"streams,omitempty"`
}

func (s stored) valid() bool {
	return s.Shards >= 1 && s.Before >= 0 && max(s.Shards, s.Before) <= s.Streams && s.Streams <= postrider.MaxShards
}

func spec() bucket.Spec {
	return bucket.Spec{Name: bucketName, Description: "how deliveries are split into shards"}
}

// Topology is the bucket. It is safe for concurrent use.
type Topology struct {
	c *stream.Client
	b *bucket.Bucket
}

// Ensure stores the configured number of shards if none is stored, and gives the client the layout that
// stands.
func Ensure(ctx context.Context, c *stream.Client) (*Topology, error) {
	b, err := bucket.Ensure(ctx, c, spec())
	if err != nil {
		return nil, err
	}
	if err := ensureSegments(ctx, c, b); err != nil {
		return nil, err
	}
	t := &Topology{c: c, b: b}
	var layout postrider.Layout
	err = c.Retry(ctx, func(ctx context.Context) (err error) {
		if layout, _, err = t.read(ctx); !errors.Is(err, ErrNone) {
			return err
		}
		layout = postrider.Layout{Version: 1, Shards: c.Config().Shards, Streams: c.Config().Shards}
		if err = t.write(ctx, layout, 0); errors.Is(err, bucket.ErrConflict) {
			layout, _, err = t.read(ctx) // another process was quicker
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.SetLayout(layout)
	return t, nil
}

// Open is Ensure for a process that knows nothing of the services' configuration. It makes nothing, and
// fails with ErrNone where no service has ever been started.
func Open(ctx context.Context, nc *nats.Conn) (*Topology, *stream.Client, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, fmt.Errorf("open jetstream: %w", err)
	}
	s, err := js.Stream(ctx, "KV_"+bucketName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, ErrNone
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open bucket %s: %w", bucketName, err)
	}
	cfg := stream.Default()
	cfg.Replicas = s.CachedInfo().Config.Replicas // or it would be brought to another number
	c, err := stream.New(nc, cfg)
	if err != nil {
		return nil, nil, err
	}
	b, err := bucket.Ensure(ctx, c, spec())
	if err != nil {
		return nil, nil, err
	}
	t := &Topology{c: c, b: b}
	layout, _, err := t.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	c.SetLayout(layout)
	return t, c, nil
}

// Refresh gives the client the layout that is stored now.
func (t *Topology) Refresh(ctx context.Context) (postrider.Layout, error) {
	layout, _, err := t.read(ctx)
	if err == nil {
		t.c.SetLayout(layout)
	}
	return layout, err
}

// Inspect is the stored layout; ErrNone if there is none. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client) (postrider.Layout, error) {
	report, err := bucket.Inspect(ctx, c, spec())
	if err != nil {
		return postrider.Layout{}, fmt.Errorf("read number of shards: %w", err)
	}
	if report.Missing {
		return postrider.Layout{}, ErrNone
	}
	m, err := c.Last(ctx, "KV_"+bucketName, "$KV."+bucketName+"."+key)
	if errors.Is(err, stream.ErrNotFound) {
		return postrider.Layout{}, ErrNone
	}
	if err != nil {
		return postrider.Layout{}, fmt.Errorf("read number of shards: %w", err)
	}
	return decode(m.Data)
}

// Follow gives the client each layout that is stored, until ctx ends.
func (t *Topology) Follow(ctx context.Context, log *slog.Logger) error {
	t.b.NewFollower(
		func(bool) {},
		func(e bucket.Entry) {
			if e.Key != key || e.Deleted {
				return
			}
			layout, err := decode(e.Value)
			if err != nil {
				log.ErrorContext(ctx, "stored number of shards cannot be read", slog.Any("error", err))
				return
			}
			if before := t.c.Layout(); layout.Version > before.Version {
				t.c.SetLayout(layout)
				log.InfoContext(ctx, "number of shards changed",
					slog.Int("shards", layout.Shards), slog.Int("before", layout.Before), slog.Int("version", layout.Version))
			}
		},
		func(err error) { log.DebugContext(ctx, "number of shards is followed anew", slog.Any("error", err)) },
	).Run(ctx)
	return nil
}

// Change makes shards the number that counts. The streams of all of them must be there. ErrUnsettled
// while something may be left from the change before. To change to what is so already changes nothing.
func (t *Topology) Change(ctx context.Context, shards int) (postrider.Layout, error) {
	if shards < 1 || shards > postrider.MaxShards {
		return postrider.Layout{}, fmt.Errorf("%d shards: want 1 to %d", shards, postrider.MaxShards)
	}
	now, revision, err := t.read(ctx)
	switch {
	case err != nil:
		return postrider.Layout{}, err
	case now.Shards == shards:
		return now, nil
	case now.Before != 0:
		return now, ErrUnsettled
	}
	next := postrider.Layout{Version: now.Version + 1, Shards: shards, Before: now.Shards, Streams: max(now.Streams, shards)}
	if err := t.write(ctx, next, revision); err != nil {
		return now, err
	}
	return next, nil
}

// Settle forgets the number before, if the layout is still the one that the caller looked at. The
// caller vouches that nothing is left on a shard that its webhook has left.
func (t *Topology) Settle(ctx context.Context, looked postrider.Layout) error {
	now, revision, err := t.read(ctx)
	if err != nil || now != looked || now.Before == 0 {
		return err
	}
	return t.write(ctx, postrider.Layout{Version: now.Version + 1, Shards: now.Shards, Streams: now.Streams}, revision)
}

func (t *Topology) read(ctx context.Context) (postrider.Layout, uint64, error) {
	e, err := t.b.Get(ctx, key)
	if errors.Is(err, bucket.ErrNotFound) {
		return postrider.Layout{}, e.Revision, ErrNone
	}
	if err != nil {
		return postrider.Layout{}, 0, fmt.Errorf("read number of shards: %w", err)
	}
	layout, err := decode(e.Value)
	return layout, e.Revision, err
}

func (t *Topology) write(ctx context.Context, l postrider.Layout, revision uint64) error {
	value, err := json.Marshal(stored(l))
	if err != nil {
		return err
	}
	if _, err := t.b.Put(ctx, key, value, revision); err != nil {
		return fmt.Errorf("store number of shards: %w", err)
	}
	return nil
}

func decode(value []byte) (postrider.Layout, error) {
	var s stored
	if err := json.Unmarshal(value, &s); err != nil {
		return postrider.Layout{}, fmt.Errorf("read number of shards: %w", err)
	}
	if s.Streams == 0 {
		s.Streams = s.Shards // written by a version that knew of no changes
	}
	if !s.valid() {
		return postrider.Layout{}, fmt.Errorf("read number of shards: %d, %d before, %d streams: want 1 to %d", s.Shards, s.Before, s.Streams, postrider.MaxShards)
	}
	return postrider.Layout(s), nil
}
