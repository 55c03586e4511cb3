package dedup

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// recordOf is a record of events in memory: a list with an incarnation.
type recordOf struct {
	mu          sync.Mutex
	incarnation string
	others      map[postrider.AccountID]string // incarnations of accounts in other segments
	events      []*recordv1.Event
	away        bool
	scans       int
	from        time.Time // of the last scan
	trimmed     time.Time // when the newest event was stored that made room for others
	looked      time.Time // when that was asked for the last time, which follows a scan
	// during, if set, is called in the middle of a scan.
	during func()
}

func (r *recordOf) Incarnation(account postrider.AccountID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if in, ok := r.others[account]; ok {
		return in
	}
	return r.incarnation
}

// restoreOf puts the account into a segment of its own, which is another now.
func (r *recordOf) restoreOf(account postrider.AccountID, incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.others = map[postrider.AccountID]string{account: incarnation}
}

func (r *recordOf) restore(incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.incarnation = incarnation
}

func (r *recordOf) setAway(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

// onScan sets what happens in the middle of scans from now on.
func (r *recordOf) onScan(during func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.during = during
}

func (r *recordOf) lastFrom() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.from
}

func (r *recordOf) scanned() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.scans
}

// store appends an event as ingest would and returns what Finish is told about it.
func (r *recordOf) store(key string, body Fingerprint, accepted time.Time) Finished {
	id := ulid.MustNew(ulid.Timestamp(accepted), ulid.DefaultEntropy())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, &recordv1.Event{
		Id: string(postrider.EventIDOf(id)), AccountId: string(acc), DedupKey: key, Fingerprint: body[:],
		AcceptTime: timestamppb.New(accepted),
	})
	return Finished{Key: KeyOf(acc, key), Fingerprint: body, Event: id, Sequence: uint64(len(r.events)), Window: time.Hour}
}

func (r *recordOf) Scan(ctx context.Context, from time.Time, fn func(uint64, *recordv1.Event) error) error {
	r.mu.Lock()
	events, away, during := r.events, r.away, r.during
	r.scans++
	r.from = from
	r.mu.Unlock()
	if away {
		return errors.New("the record is away")
	}
	for i, ev := range events {
		if ev.GetAcceptTime().AsTime().Before(from) {
			continue
		}
		if err := fn(uint64(i+1), ev); err != nil {
			return err
		}
	}
	if during != nil {
		during()
	}
	return ctx.Err()
}

func (r *recordOf) TrimmedSince(_ context.Context, from time.Time) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Now()
	return r.trimmed.After(from), nil
}

func (r *recordOf) lastLooked() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.looked
}

// trim loses every event so far.
func (r *recordOf) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.trimmed = nil, time.Now()
}
