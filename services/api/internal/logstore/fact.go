package logstore

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Triggers of attempts. Two are outside of the schedule.
const (
	TriggerSchedule = "schedule"
	TriggerTest     = "test"   // TestWebhook asked for it
	TriggerManual   = "manual" // RetryDelivery asked for it
)

// facts is what some entries say, merged by event and by delivery: most deliveries are routed and
// delivered within one transaction. It is what a store writes, in the order of the keys, so that two
// that write at once wait for each other and never in a circle.
type facts struct {
	events     map[string]*eventFact
	deliveries map[string]*fact
	attempts   []attemptFact // but for early ones
	moves      []moveFact
	more       *facts // what is written after this: second early attempts of deliveries that are in it; nil: none
}

// eventFact is what entries say of one event. Times are as stored.
type eventFact struct {
	id, account, eventType string
	sequence               int64
	accept, route, expunge int64
	matched, unmatched     int32
	record                 []byte // Routed, of which only what Event.Routed says is set
	key, trace             string
}

// merge adds another fact about the same event. An event with many matches has several entries, and
// only the first has the webhooks that did not match.
func (f *eventFact) merge(o *eventFact) {
	f.sequence, f.accept, f.expunge = max(f.sequence, o.sequence), max(f.accept, o.accept), max(f.expunge, o.expunge)
	f.matched, f.unmatched = max(f.matched, o.matched), max(f.unmatched, o.unmatched)
	if f.route == 0 || o.route != 0 && o.route < f.route {
		f.route = o.route
	}
	f.key, f.trace = max(f.key, o.key), max(f.trace, o.trace)
	if cmp.Or(cmp.Compare(len(o.record), len(f.record)), bytes.Compare(o.record, f.record)) > 0 {
		f.record = o.record
	}
}

// attemptFact is one attempt.
type attemptFact struct {
	id, delivery, account, event string
	start                        int64
	record                       []byte
	webhook                      string
	good, bucket                 int
}

// moveFact is one change of a delivery's state without an attempt.
type moveFact struct {
	delivery, account, event string
	time                     int64
	series                   int32
	state                    postrider.DeliveryState
	reason                   string
	next                     int64
}

// fact is what entries say of one delivery.
type fact struct {
	account, event, eventType       string
	deliveryID, webhookID, replayID string
	routed                          int32 // 1 if routing named it
	create                          int64 // times are as stored
	series                          int32
	state                           postrider.DeliveryState
	stateTime                       int64
	reason                          string
	next                            int64
	attempts                        int32
	attemptTime                     int64
	status                          int32
	class, outcome                  string
	early                           *attemptFact // nil: none
	earlyIDs                        string       // in a row, see early.go
}

// merge adds another fact about the same delivery. Facts come twice and in any order: the latest
// series stands, because a redrive leads out of an end state; in it the state of the highest rank
// (end states absorb), and among equals the latest. The attempts of the latest series count; the
// attempt with the latest start gives the last status; the earliest time is the delivery's creation.
func (f *fact) merge(o *fact) {
	newer := cmp.Or(cmp.Compare(o.series, f.series), cmp.Compare(o.state.Rank(), f.state.Rank()),
		cmp.Compare(o.stateTime, f.stateTime), cmp.Compare(o.state, f.state)) >= 0
	if newer {
		f.state, f.stateTime, f.reason, f.next = o.state, o.stateTime, o.reason, o.next
	}
	switch {
	case o.series > f.series:
		f.series, f.attempts = o.series, o.attempts
	case o.series == f.series:
		f.attempts = max(f.attempts, o.attempts)
	}
	f.create = min(f.create, o.create)
	if f.early == nil {
		f.early = o.early
	}
	f.replayID = cmp.Or(f.replayID, o.replayID)
	f.routed = max(f.routed, o.routed)
	if o.attemptTime > f.attemptTime {
		f.attemptTime, f.status, f.class, f.outcome = o.attemptTime, o.status, o.class, o.outcome
	}
}

// within reports whether the row holds the fact, or what came after it.
func (f *fact) within(row *Standing) bool {
	if row == nil || f.routed > 0 && !row.Routed {
		return false
	}
	return cmp.Or(cmp.Compare(row.Series, f.series), cmp.Compare(row.State.Rank(), f.state.Rank()),
		cmp.Compare(row.stateTime, f.stateTime), cmp.Compare(row.State, f.state)) >= 0
}

func newFacts() *facts {
	return &facts{events: make(map[string]*eventFact), deliveries: make(map[string]*fact)}
}

func (g *facts) entry(t texts, e *entry) (err error) {
	f := fact{webhookID: e.webhook, series: e.series}
	switch e.what {
	case whatRouted:
		return g.routed(t, e)
	case whatAttempted:
		return g.attempted(t, e)
	case whatExpunged:
		g.addEvent(&eventFact{id: e.event, account: e.account, eventType: e.eventType, expunge: e.time})
		return nil
	case whatWaiting:
		f.state = postrider.Waiting
		f.reason, f.next, err = t.why(e.body, waitingReason)
	case whatHeld:
		f.state = postrider.Held
		f.reason, _, err = t.why(e.body, whyReason)
	case whatReleased:
		f.state = postrider.Pending
		f.reason, _, err = t.why(e.body, whyReason)
	case whatDead:
		f.state = postrider.Dead
		f.reason, _, err = t.why(e.body, whyReason)
	case whatCancelled:
		f.state = postrider.Cancelled
		f.reason, _, err = t.why(e.body, whyReason)
	default:
		return nil // written by a later version; the fields that this one knows say nothing
	}
	if err != nil {
		return err
	}
	g.moves = append(g.moves, moveFact{
		delivery: e.delivery, account: e.account, event: e.event, time: e.time,
		series: f.series, state: f.state, reason: f.reason, next: f.next,
	})
	g.add(e, e.delivery, &f)
	return nil
}

func (g *facts) routed(t texts, e *entry) error {
	r, err := t.routing(e.body)
	if err != nil {
		return err
	}
	if r.replay == "" { // A replay makes deliveries, and says nothing of what routing found.
		g.addEvent(&eventFact{
			id: e.event, account: e.account, eventType: e.eventType, sequence: r.sequence, accept: r.accept, route: e.time,
			matched: r.matched, unmatched: r.unmatched, record: r.record, key: givenKey(r.key), trace: traceOf(r.parent),
		})
	}
	for _, d := range r.deliveries {
		g.add(e, d.delivery, &fact{webhookID: d.webhook, replayID: r.replay, routed: 1, state: postrider.Pending})
	}
	return nil
}

// givenKey is what the producer gave of a deduplication key: an idempotency key, or its own id.
func givenKey(dedupKey string) string {
	if key, ok := strings.CutPrefix(dedupKey, "key:"); ok {
		return key
	}
	if _, id, ok := strings.Cut(dedupKey, "\x00"); ok {
		return id
	}
	return ""
}

// traceOf is the trace id of a traceparent; empty if it has none.
func traceOf(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 {
		return ""
	}
	if _, err := hex.DecodeString(parts[1]); err != nil {
		return ""
	}
	return strings.ToLower(parts[1])
}

func (g *facts) attempted(t texts, e *entry) error {
	at, err := t.trying(e.body)
	if err != nil {
		return err
	}
	good, bucket := at.counted()
	a := &attemptFact{
		id: at.id, delivery: e.delivery, account: e.account, event: e.event, start: at.start,
		record: e.body, webhook: e.webhook, good: good, bucket: bucket,
	}
	if !at.early(e) {
		g.attempts = append(g.attempts, *a)
		a = nil
	}
	if at.trigger == TriggerTest {
		return nil // a test is an attempt without a delivery
	}
	state, series := postrider.DeliveryState(at.state), e.series
	switch {
	case state != "":
	case at.trigger == TriggerManual:
		series = 0 // It says nothing of the delivery: below whatever is said in any series.
	default:
		state = postrider.Pending
	}
	g.add(e, e.delivery, &fact{
		webhookID: e.webhook, series: series, state: state, reason: at.reason, next: at.next, attempts: at.number,
		attemptTime: at.start, status: at.status, class: at.class, outcome: at.outcome, early: a,
	})
	return nil
}

// add merges what an entry says of a delivery.
func (g *facts) add(e *entry, delivery string, f *fact) {
	f.account, f.event, f.eventType, f.deliveryID = e.account, e.event, e.eventType, delivery
	f.stateTime, f.create = e.time, e.time
	if e.create != 0 {
		f.create = min(f.create, e.create)
	}
	known := g.deliveries[delivery]
	if known == nil {
		g.deliveries[delivery] = f
		return
	}
	if f.early != nil && known.early != nil && known.early.id != f.early.id {
		if g.more == nil {
			g.more = newFacts()
		}
		again := *f
		g.more.add(e, delivery, &again)
	}
	known.merge(f)
}

func (g *facts) addEvent(f *eventFact) {
	if known := g.events[f.id]; known != nil {
		known.merge(f)
		return
	}
	g.events[f.id] = f
}

// orderedDeliveries is in the order of events, in which rows lie and most indexes grow, and then of ids: as a
// delivery has one event, it is the same for all who write.
func (g *facts) orderedDeliveries() []*fact {
	return slices.SortedFunc(maps.Values(g.deliveries), func(a, b *fact) int {
		return cmp.Or(cmp.Compare(a.event, b.event), cmp.Compare(a.deliveryID, b.deliveryID))
	})
}

// ordered is the values of a map in the order of their keys.
func ordered[V any](m map[string]V) []V {
	list := make([]V, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[key])
	}
	return list
}

func (g *facts) sortAttempts() {
	slices.SortFunc(g.attempts, func(a, b attemptFact) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.delivery, b.delivery))
	})
}

func (g *facts) sortMoves() {
	slices.SortFunc(g.moves, func(a, b moveFact) int {
		return cmp.Or(cmp.Compare(a.delivery, b.delivery), cmp.Compare(a.time, b.time), cmp.Compare(a.state, b.state),
			cmp.Compare(a.series, b.series), cmp.Compare(a.reason, b.reason))
	})
}

// redacted is an attempt's record without its recorded bodies; nil if it has none.
func redacted(raw []byte) ([]byte, error) {
	at := &recordv1.Attempted{}
	if err := proto.Unmarshal(raw, at); err != nil {
		return nil, err
	}
	if !Strip(at) {
		return nil, nil
	}
	return proto.Marshal(at)
}

// Strip takes the recorded bodies of an attempt away, and reports whether there were any.
func Strip(at *recordv1.Attempted) bool {
	had := len(at.GetRequestBody()) > 0 || len(at.GetResponseBody()) > 0
	at.RequestBody, at.ResponseBody = nil, nil
	return had
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
