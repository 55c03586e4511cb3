package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// Places in look.counts.
const (
	inDeliveries = iota
	inRecords
	inDue
	inLetters
)

// chunk is how many ids are looked up at once.
const chunk = 2000

// streams sees what the streams hold: DELIVERIES, then RETRIES, then DEADLETTERS, the way that a
// delivery goes.
func (r *run) streams(ctx context.Context, l *look, keep func(string) bool) error {
	shards := r.deps.Streams.Layout().Streams
	read := func() error {
		var n int64
		for _, count := range l.counts {
			n += count
		}
		return r.progress.show(streaming, n, 0)
	}
	if err := read(); err != nil {
		return err
	}
	see := func(d *recordv1.Delivery, p place) {
		if keep != nil && !keep(d.GetId()) {
			return
		}
		p.series, p.event, p.replay = d.GetProgress().GetSeries(), d.GetEventSequence(), d.GetReplayId() != ""
		s := l.at(d)
		s.places = append(s.places, p)
	}
	for shard := range shards {
		err := deliverystream.Walk(ctx, r.deps.Streams, shard, func(sequence uint64, d *recordv1.Delivery) error {
			l.counts[inDeliveries]++
			see(d, place{stream: deliverystream.Name(shard), shard: shard, sequence: sequence})
			return read()
		})
		if err != nil {
			return err
		}
	}
	for shard := range shards {
		err := retrystream.Walk(ctx, r.deps.Streams, shard, func(s retrystream.Standing) error {
			p := place{stream: retrystream.Name(shard), shard: shard, sequence: s.Sequence, record: !s.Due, fire: s.FireTime}
			p.held = p.record && s.Retry.GetKind() == recordv1.RetryKind_RETRY_KIND_HELD
			if p.record {
				l.counts[inRecords]++
			} else {
				l.counts[inDue]++
			}
			see(s.Retry.GetDelivery(), p)
			return read()
		})
		if err != nil {
			return err
		}
	}
	return r.deps.Letters.Walk(ctx, func(i deadletterstream.Item) error {
		l.counts[inLetters]++
		if d := i.Letter.GetDelivery(); keep == nil || keep(d.GetId()) {
			l.at(d).letter = fmt.Sprintf("DEADLETTERS:%d", i.Sequence)
		}
		return read()
	})
}

func (l *look) at(d *recordv1.Delivery) *sight {
	s := l.seen[d.GetId()]
	if s == nil {
		s = &sight{account: d.GetAccountId(), webhook: d.GetWebhookId(), event: d.GetEventId()}
		l.seen[d.GetId()] = s
	}
	return s
}

// first looks at everything.
func (r *run) first(ctx context.Context) (findings, error) {
	l, err := r.look(ctx, nil)
	if err != nil {
		return nil, err
	}
	r.summary.Deliveries, r.summary.Records = l.counts[inDeliveries], l.counts[inRecords]
	r.summary.Due, r.summary.DeadLetters = l.counts[inDue], l.counts[inLetters]
	found := make(findings)
	if err := r.standings(ctx, l, slices.Collect(maps.Keys(l.seen)), found); err != nil {
		return nil, err
	}
	now := r.deps.Now()
	err = r.deps.Log.Unfinished(ctx, r.diedSince, func(row *logstore.Standing) error {
		r.summary.LogDeliveries++
		if l.seen[row.ID] == nil { // else it was judged
			found.judge(row.ID, &sight{}, row, l.passed, r.diedSince, now)
		}
		return r.progress.show(logged, r.summary.GetLogDeliveries(), 0)
	})
	if err != nil {
		return nil, err
	}
	if err := r.routed(ctx, l.passed, found); err != nil {
		return nil, err
	}
	if err := r.journalled(ctx, l.upTo, found); err != nil {
		return nil, err
	}
	return found, r.indexed(ctx, l, found)
}

// again looks at suspects, and keeps those that are found as before.
func (r *run) again(ctx context.Context, suspects findings) (findings, error) {
	if len(suspects) == 0 {
		return suspects, nil
	}
	deliveries, events, messages := make(map[string]bool), make(map[string]*finding), make(map[uint64]bool)
	for _, f := range suspects {
		if f.delivery != "" {
			deliveries[f.delivery] = true
		} else {
			events[f.event] = f
		}
		for _, sequence := range f.journal {
			messages[sequence] = true
		}
	}
	l, err := r.look(ctx, func(id string) bool { return deliveries[id] })
	if err != nil {
		return nil, err
	}
	found := make(findings)
	if err := r.standings(ctx, l, slices.Collect(maps.Keys(deliveries)), found); err != nil {
		return nil, err
	}
	owners := make(map[string]string, len(events))
	for id, f := range events {
		owners[id] = f.account
	}
	known, err := r.deps.Log.Events(ctx, owners)
	if err != nil {
		return nil, err
	}
	for id, was := range events {
		if k := (key{eventNotRouted, id}); suspects[k] != nil && !known[id] {
			found[k] = &finding{key: k, account: was.account, event: id}
		}
	}
	for _, sequence := range slices.Sorted(maps.Keys(messages)) {
		entries, err := r.deps.Journal.Read(ctx, []uint64{sequence})
		if err != nil {
			return nil, err
		}
		if err := r.unrecorded(ctx, entries, []uint64{sequence}, found); err != nil {
			return nil, err
		}
	}
	if err := r.indexed(ctx, l, found); err != nil {
		return nil, err
	}
	return found.confirmed(suspects), nil
}

// standings judges deliveries by what the log says of them.
func (r *run) standings(ctx context.Context, l *look, ids []string, found findings) error {
	now := r.deps.Now()
	for part := range slices.Chunk(ids, chunk) {
		rows, err := r.deps.Log.Standings(ctx, part)
		if err != nil {
			return err
		}
		for _, id := range part {
			s := l.seen[id]
			if s == nil {
				s = &sight{}
			}
			found.judge(id, s, rows[id], l.passed, r.diedSince, now)
		}
	}
	return nil
}

// routed looks for events that routing has passed and the log does not know.
func (r *run) routed(ctx context.Context, passed eventstream.Routing, found findings) error {
	owners := make(map[string]string, chunk)
	compare := func() error {
		known, err := r.deps.Log.Events(ctx, owners)
		if err != nil {
			return err
		}
		for id, account := range owners {
			if !known[id] {
				k := key{eventNotRouted, id}
				found[k] = &finding{key: k, account: account, event: id}
			}
		}
		clear(owners)
		return nil
	}
	total := int64(passed.Passed()) //nolint:gosec // places in streams
	err := r.deps.Events.Walk(ctx, passed, func(place uint64, ev *recordv1.Event) error {
		r.summary.Events++
		if err := r.progress.show(routing, int64(place), total); err != nil { //nolint:gosec // places in streams
			return err
		}
		owners[ev.GetId()] = ev.GetAccountId()
		if len(owners) < chunk {
			return nil
		}
		return compare()
	})
	if err != nil {
		return err
	}
	return compare()
}

// errPast ends a walk.
var errPast = errors.New("past the end")

// journalled looks for entries of the journal, up to a message, that the log does not hold.
func (r *run) journalled(ctx context.Context, upTo uint64, found findings) error {
	var entries []*recordv1.JournalEntry
	var messages []uint64
	compare := func() error {
		err := r.unrecorded(ctx, entries, messages, found)
		entries, messages = entries[:0], messages[:0]
		return err
	}
	err := r.deps.Journal.Walk(ctx, func(sequence uint64, packed []*recordv1.JournalEntry) error {
		if sequence > upTo {
			return errPast
		}
		r.summary.JournalEntries += int64(len(packed))
		if err := r.progress.show(journaling, int64(sequence), int64(upTo)); err != nil { //nolint:gosec // places in a stream
			return err
		}
		entries, messages = append(entries, packed...), append(messages, sequence)
		if len(entries) < chunk {
			return nil
		}
		return compare()
	})
	if err != nil && !errors.Is(err, errPast) {
		return err
	}
	return compare()
}

// unrecorded adds what entries of some messages say and the log does not hold. Of several messages
// the ones that matter are not told apart: a repair applies them all, which does no harm.
func (r *run) unrecorded(ctx context.Context, entries []*recordv1.JournalEntry, messages []uint64, found findings) error {
	deliveries, events, err := r.deps.Log.Unrecorded(ctx, entries)
	if err != nil {
		return err
	}
	for _, row := range append(deliveries, events...) {
		id := row.ID
		if id == "" {
			id = row.Event
		}
		k := key{logBehind, id}
		if found[k] == nil {
			found[k] = &finding{key: k, account: row.Account, event: row.Event, delivery: row.ID, webhook: row.Webhook}
		}
		found[k].journal = append(found[k].journal, messages...)
	}
	return nil
}

// maxCompared is how many records the scheduler compares at once.
const maxCompared = 4096

// recordAt names a record.
type recordAt struct {
	shard    int32
	sequence uint64
}

// indexed looks for records that the index does not hold. If it does not answer it is not compared.
func (r *run) indexed(ctx context.Context, l *look, found findings) error {
	ids := make(map[recordAt]string)
	places := make(map[recordAt]place)
	for id, s := range l.seen {
		for _, p := range s.places {
			if p.record && !p.held {
				at := recordAt{int32(p.shard), p.sequence} //nolint:gosec // a shard's number
				ids[at], places[at] = id, p
			}
		}
	}
	missing, _, err := r.compareIndex(ctx, slices.Collect(maps.Keys(ids)), false)
	if err != nil {
		if f, ok := fault.As(err); ok && f.Kind == fault.Unavailable && ctx.Err() == nil {
			r.summary.IndexCompared = false
			return nil
		}
		return fmt.Errorf("compare the retry index: %w", err)
	}
	for _, at := range missing {
		f := found.add(notIndexed, ids[at], l.seen[ids[at]], nil)
		f.record = places[at]
		f.evidence = f.record.String()
	}
	return nil
}

func (r *run) compareIndex(ctx context.Context, records []recordAt, repair bool) (missing, repaired []recordAt, err error) {
	done := 0
	for part := range slices.Chunk(records, maxCompared) {
		if err := r.progress.show(indexing, int64(done), int64(len(records))); err != nil {
			return nil, nil, err
		}
		done += len(part)
		req := &schedulerv1.CompareIndexRequest{Repair: repair}
		for _, at := range part {
			req.Records = append(req.Records, &schedulerv1.RecordPlace{Shard: at.shard, Sequence: at.sequence})
		}
		resp, err := r.deps.Scheduler.CompareIndex(ctx, req)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range resp.GetMissing() {
			missing = append(missing, recordAt{p.GetShard(), p.GetSequence()})
		}
		for _, p := range resp.GetRepaired() {
			repaired = append(repaired, recordAt{p.GetShard(), p.GetSequence()})
		}
	}
	return missing, repaired, nil
}
