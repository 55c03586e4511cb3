package admission

import (
	"context"

	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// doublePublisher sends every event twice and hears the second answer only, as a publisher does
// whose first acknowledgement was lost.
type doublePublisher struct{ *record }

func (d *doublePublisher) Publish(ctx context.Context, ev *recordv1.Event, done func(eventstream.Stored, error)) error {
	if _, err := d.put(ev); err != nil {
		return err
	}
	return d.record.Publish(ctx, ev, done)
}

// brokenIndex is an index of which a part does not work.
type brokenIndex struct {
	dedup.Index

	blind      bool
	unfinished bool
}

func (b *brokenIndex) Claim(ctx context.Context, claims []dedup.Claim, results []dedup.Result) {
	b.Index.Claim(ctx, claims, results)
	if !b.blind {
		return
	}
	for i := range claims {
		results[i] = dedup.Result{Outcome: dedup.Blind, Event: claims[i].Event, Degraded: true}
	}
}

func (b *brokenIndex) Finish(ctx context.Context, done []dedup.Finished) error {
	if b.unfinished && len(done) > 0 {
		return dedup.ErrAway
	}
	return b.Index.Finish(ctx, done)
}
