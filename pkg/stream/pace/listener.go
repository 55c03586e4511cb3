package pace

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// stale is after how long a report says nothing any more.
const stale = 10 * Every

// Listener hears the reports of all routers and dispatchers. It is safe for concurrent use. Close it.
type Listener struct {
	sub   *nats.Subscription
	heard chan struct{}

	mu      sync.Mutex
	stages  map[string]map[string]last // by stage and instance
	company company
	several time.Time // when somebody did not say of whom messages were
}

type last struct {
	at time.Time
	report
}

// Listen begins to listen.
func Listen(nc *nats.Conn) (*Listener, error) {
	l := &Listener{heard: make(chan struct{}, 1), stages: map[string]map[string]last{}}
	sub, err := nc.Subscribe(subject+">", l.hear)
	if err != nil {
		return nil, fmt.Errorf("listen to the pace: %w", err)
	}
	l.sub = sub
	return l, nil
}

func (l *Listener) hear(m *nats.Msg) {
	stage, instance, ok := strings.Cut(strings.TrimPrefix(m.Subject, subject), ".")
	var r report
	if err := json.Unmarshal(m.Data, &r); err != nil || !ok {
		return
	}
	l.mu.Lock()
	if l.stages[stage] == nil {
		l.stages[stage] = map[string]last{}
	}
	now := time.Now()
	l.stages[stage][instance] = last{at: now, report: r}
	for _, account := range r.Accounts {
		l.company.saw(account, now)
	}
	if len(r.Accounts) == 0 {
		l.several = now
	}
	l.mu.Unlock()
	select {
	case l.heard <- struct{}{}:
	default:
	}
}

// Heard has something whenever a report came.
func (l *Listener) Heard() <-chan struct{} { return l.heard }

// Late is how late the later stage is, reckoned over its instances by how much each took, and how many messages
// wait there at a time, which follows from that; known is false if none has said so in the last half second: nothing
// is taken at all, or nobody is there.
func (l *Listener) Late(now time.Time) (late time.Duration, waiting float64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, instances := range l.stages {
		var sum, rate float64
		for name, r := range instances {
			if now.Sub(r.at) > stale {
				delete(instances, name)
				continue
			}
			weight := max(r.Rate, 1)
			sum += float64(r.Late) * weight
			rate += weight
		}
		if rate > 0 {
			known = true
			if stage := time.Duration(sum / rate); stage >= late {
				late, waiting = stage, time.Duration(sum).Seconds()
			}
		}
	}
	return late, waiting, known
}

// Alone says whether all that was taken for the last ten seconds is of one account, so that nobody else waits for
// what is late.
func (l *Listener) Alone(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	then := now.Add(-alone)
	return !l.several.After(then) && len(l.company.since(then)) == 1
}

// Close ends listening.
func (l *Listener) Close() error { return l.sub.Unsubscribe() }
