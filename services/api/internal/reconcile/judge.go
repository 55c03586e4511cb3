package reconcile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// Short names of the kinds.
const (
	eventNotRouted    = postriderv1.ImbalanceKind_IMBALANCE_KIND_EVENT_NOT_ROUTED
	nowhere           = postriderv1.ImbalanceKind_IMBALANCE_KIND_NOWHERE
	noRecord          = postriderv1.ImbalanceKind_IMBALANCE_KIND_NO_RECORD
	twoPlaces         = postriderv1.ImbalanceKind_IMBALANCE_KIND_TWO_PLACES
	ended             = postriderv1.ImbalanceKind_IMBALANCE_KIND_ENDED
	notJournalled     = postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_JOURNALLED
	notIndexed        = postriderv1.ImbalanceKind_IMBALANCE_KIND_NOT_INDEXED
	overdue           = postriderv1.ImbalanceKind_IMBALANCE_KIND_OVERDUE
	unknownDeadLetter = postriderv1.ImbalanceKind_IMBALANCE_KIND_UNKNOWN_DEAD_LETTER
	noDeadLetter      = postriderv1.ImbalanceKind_IMBALANCE_KIND_NO_DEAD_LETTER
	logBehind         = postriderv1.ImbalanceKind_IMBALANCE_KIND_LOG_BEHIND
)

// place is one message of a stream that is about a delivery.
type place struct {
	stream   string
	shard    int
	sequence uint64
	series   int32
	event    uint64    // its sequence
	replay   bool      // whether a replay made the delivery
	record   bool      // of RETRIES, not due
	held     bool      // a record that waits for its webhook, which no index holds
	fire     time.Time // when the server turns the record into a due message by itself
}

func (p place) String() string { return p.stream + ":" + strconv.FormatUint(p.sequence, 10) }

// sight is where a delivery was seen.
type sight struct {
	account, webhook, event string
	places                  []place
	letter                  string // stream and sequence of its dead letter; empty for none
}

// key names a fault.
type key struct {
	kind postriderv1.ImbalanceKind
	id   string // of the delivery, or of the event
}

// finding is a fault that was found.
type finding struct {
	key

	account, webhook, event, delivery string
	state                             postrider.DeliveryState
	places                            []string
	evidence                          string
	journal                           []uint64 // messages that the log does not hold
	record                            place    // that the index does not hold
	repaired                          bool
}

type findings map[key]*finding

// add keeps a finding about a delivery.
func (f findings) add(kind postriderv1.ImbalanceKind, id string, s *sight, row *logstore.Standing) *finding {
	x := &finding{key: key{kind, id}, delivery: id, account: s.account, webhook: s.webhook, event: s.event}
	if row != nil {
		x.account, x.webhook, x.event, x.state = row.Account, row.Webhook, row.Event, row.State
		x.evidence = fmt.Sprintf("%d %s %d %d", row.Series, row.State, row.StateTime.UnixMicro(), row.Attempts)
	}
	for _, p := range s.places {
		x.places = append(x.places, p.String())
	}
	if s.letter != "" {
		x.places = append(x.places, s.letter)
	}
	slices.Sort(x.places)
	x.evidence += " " + strings.Join(x.places, " ")
	f[x.key] = x
	return x
}

// overdueMargin is how late the server's own timers may be.
const overdueMargin = 10 * time.Second

// judge adds what is wrong with a delivery, given where it was seen and what the log, which was read
// later, says of it.
func (f findings) judge(id string, s *sight, row *logstore.Standing, passed eventstream.Routing, diedSince, now time.Time) {
	for _, p := range s.places {
		if p.record && now.After(p.fire.Add(overdueMargin)) {
			f.add(overdue, id, s, row)
		}
	}
	switch {
	case row == nil:
		f.unknown(id, s, passed.Floor(postrider.AccountID(s.account)))
	case row.State.Ended():
		f.over(id, s, row, diedSince)
	default:
		f.open(id, s, row)
	}
}

// unknown judges a delivery that the log does not know. Its event may be in a router's hands still.
func (f findings) unknown(id string, s *sight, floor uint64) {
	for _, p := range s.places {
		if p.event <= floor || p.replay {
			f.add(notJournalled, id, s, nil)
			return
		}
	}
	if s.letter != "" {
		f.add(unknownDeadLetter, id, s, nil)
	}
}

// over judges a delivery that has ended, by the log. One that is in a later series is being redriven.
func (f findings) over(id string, s *sight, row *logstore.Standing, diedSince time.Time) {
	for _, p := range s.places {
		if p.series > row.Series {
			f.add(notJournalled, id, s, row)
			return
		}
	}
	if len(s.places) > 0 {
		f.add(ended, id, s, row)
		return
	}
	if row.State == postrider.Dead && s.letter == "" && !row.StateTime.Before(diedSince) {
		f.add(noDeadLetter, id, s, row)
	}
}

// open judges a delivery that has not ended, by the log.
func (f findings) open(id string, s *sight, row *logstore.Standing) {
	switch {
	case s.letter != "":
		f.add(unknownDeadLetter, id, s, row)
	case len(s.places) > 1:
		f.add(twoPlaces, id, s, row)
	case len(s.places) == 1:
	case row.State == postrider.Pending:
		f.add(nowhere, id, s, row)
	default:
		f.add(noRecord, id, s, row)
	}
}

// explain drops what only follows from a log that is behind: once it has caught up, a later run says
// what is left.
func (f findings) explain() {
	for k := range f {
		if _, behind := f[key{logBehind, k.id}]; !behind {
			continue
		}
		switch k.kind { //nolint:exhaustive // the others do not come from the log
		case nowhere, noRecord, ended, notJournalled, unknownDeadLetter, noDeadLetter, eventNotRouted:
			delete(f, k)
		}
	}
}

// confirmed keeps what was found before with the same evidence.
func (f findings) confirmed(before findings) findings {
	for k, x := range f {
		if was := before[k]; was == nil || was.evidence != x.evidence {
			delete(f, k)
		}
	}
	return f
}

func (f findings) sorted() []*finding {
	list := make([]*finding, 0, len(f))
	for _, x := range f {
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *finding) int {
		if a.kind != b.kind {
			return int(a.kind - b.kind)
		}
		return strings.Compare(a.id, b.id)
	})
	return list
}

func (x *finding) shown() *postriderv1.Imbalance {
	return &postriderv1.Imbalance{
		Kind: x.kind, AccountId: x.account, EventId: x.event, DeliveryId: x.delivery, WebhookId: x.webhook,
		State: string(x.state), Places: x.places, Repaired: x.repaired,
	}
}
