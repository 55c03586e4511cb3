package admission

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// record is EVENTS in memory: a list that remembers message ids and calls back from another
// goroutine. A test can make it refuse, lose acknowledgements, forget ids, or stand still.
type record struct {
	work sync.WaitGroup

	mu     sync.Mutex
	events []*recordv1.Event
	ids    map[string]uint64
	// answer, if set, decides about a publish that would be stored: store says whether it is,
	// err what its producer is told.
	answer func(ev *recordv1.Event) (store bool, err error)
	unread error               // of Get and Find
	room   chan struct{}       // if set, Publish takes a slot of it and gives none back
	stuck  postrider.AccountID // if set, room is that of its segment only
	asked  int                 // publishes that wanted a slot of room
	hold   chan struct{}       // if set, acknowledgements wait for it to be closed
	reads  int
}

func newRecord(t testing.TB) *record {
	t.Helper()
	r := &record{ids: make(map[string]uint64)}
	t.Cleanup(r.work.Wait)
	return r
}

func (r *record) Incarnation(postrider.AccountID) string { return "one" }

func (r *record) TrimmedSince(context.Context, time.Time) (bool, error) { return false, nil }

func (r *record) Publish(ctx context.Context, ev *recordv1.Event, done func(eventstream.Stored, error)) error {
	r.mu.Lock()
	room, hold := r.room, r.hold
	if r.stuck != "" && r.stuck != postrider.AccountID(ev.GetAccountId()) {
		room = nil
	}
	if room != nil {
		r.asked++
	}
	r.mu.Unlock()
	if room != nil {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	stored, err := r.put(ev)
	r.work.Go(func() {
		if hold != nil {
			<-hold
		}
		done(stored, err)
	})
	return nil
}

func (r *record) put(ev *recordv1.Event) (eventstream.Stored, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := eventstream.MsgID(ev)
	if seq, ok := r.ids[id]; ok {
		return eventstream.Stored{Sequence: seq, Duplicate: true}, nil
	}
	store, err := true, error(nil)
	if r.answer != nil {
		store, err = r.answer(ev)
	}
	if !store {
		return eventstream.Stored{}, err
	}
	copied, ok := proto.Clone(ev).(*recordv1.Event)
	if !ok {
		return eventstream.Stored{}, errors.New("no event")
	}
	r.events = append(r.events, copied)
	r.ids[id] = uint64(len(r.events))
	if err != nil {
		return eventstream.Stored{}, err
	}
	return eventstream.Stored{Sequence: uint64(len(r.events))}, nil
}

func (r *record) Get(_ context.Context, _ postrider.AccountID, sequence uint64) (*recordv1.Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.unread != nil {
		return nil, r.unread
	}
	if sequence == 0 || sequence > uint64(len(r.events)) {
		return nil, eventstream.ErrNotFound
	}
	return r.events[sequence-1], nil
}

func (r *record) Find(_ context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	if r.unread != nil {
		return nil, 0, r.unread
	}
	for i, ev := range r.events {
		if ev.GetId() == string(id) && ev.GetAccountId() == string(account) {
			return ev, uint64(i + 1), nil
		}
	}
	return nil, 0, eventstream.ErrNotFound
}

func (r *record) Scan(_ context.Context, from time.Time, fn func(uint64, *recordv1.Event) error) error {
	r.mu.Lock()
	events := r.events
	r.mu.Unlock()
	for i, ev := range events {
		if ev.GetAcceptTime().AsTime().Before(from) {
			continue
		}
		if err := fn(uint64(i+1), ev); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) change(f func(*record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

// forget lets the window of message ids pass.
func (r *record) forget() { r.change(func(r *record) { r.ids = make(map[string]uint64) }) }

func (r *record) all() []*recordv1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*recordv1.Event(nil), r.events...)
}

func (r *record) readCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads
}
