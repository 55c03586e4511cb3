// Package pace owns the subjects `pace.<stage>.<instance>`, on which routers and dispatchers say how late
// they come to what is stored. They are plain messages that no stream keeps: one that is lost, or comes
// while nobody listens, costs the listener what it would have known for a twentieth of a second.
package pace

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const subject = "pace."

// Stages at which what was accepted may have to wait.
const (
	// Router is where events wait to be routed.
	Router = "router"
	// Dispatcher is where deliveries wait to be attempted.
	Dispatcher = "dispatcher"
)

// Times of reports.
const (
	// Every is how often one who is late says so.
	Every = 50 * time.Millisecond
	// calm is how often one says so who is not.
	calm = 4 * Every
	// worth is how late one must be to say so at once.
	worth = 2 * time.Millisecond
	// remembered is for how long at least it is known what the least wait was, from which lateness counts: what
	// a network, a disk and the difference of two clocks take is no queue.
	remembered = 30 * time.Second
)

// report is the body of a message.
type report struct {
	Late int64   `json:"late"` // nanoseconds, on average
	Rate float64 `json:"rate"` // messages taken a second
	// Accounts are up to two whose messages were taken since the report before; none if all of them were taken
	// earlier and waited since, or if the instance is of a
	// version that does not say so.
	Accounts []string `json:"accounts,omitempty"`
}

// Meter measures how late messages are taken, and tells the listeners while any are. It is safe for
// concurrent use, and costs nothing while nothing is taken. Close it.
type Meter struct {
	nc      *nats.Conn
	subject string
	log     *slog.Logger

	mu      sync.Mutex
	timer   *time.Timer
	armed   bool
	closed  bool
	streams map[string]*line // that were taken from
	waited  sums             // inside the process after a message was taken
	told    time.Time
	company company
}

type sums struct {
	count int
	sum   time.Duration
}

func (s *sums) add(d time.Duration) { s.count, s.sum = s.count+1, s.sum+d }

func (s *sums) mean() time.Duration { return s.sum / time.Duration(max(s.count, 1)) }

// NewMeter returns a meter for an instance, which is unique at its stage.
func NewMeter(nc *nats.Conn, stage, instance string, log *slog.Logger) *Meter {
	return &Meter{nc: nc, subject: subject + stage + "." + token(instance), log: log, streams: map[string]*line{}}
}

// token makes a name fit for one token of a subject.
func token(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == '.' || r == '*' || r == '>' || r > '~' {
			return '_'
		}
		return r
	}, name)
}

// Took says that an account's message of a stream is taken now for the first time that was stored then. Those of
// one stream are taken in the order in which they were stored.
func (m *Meter) Took(stream, account string, stored, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.company.saw(account, now)
	l := m.streams[stream]
	if l == nil {
		l = &line{}
		m.streams[stream] = l
	}
	l.took(now.Sub(stored), now)
	m.arm()
}

// Waited says that what was taken waited inside the process for so long.
func (m *Meter) Waited(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waited.add(d)
	m.arm()
}

func (m *Meter) arm() {
	if m.armed || m.closed {
		return
	}
	m.armed = true
	if m.timer == nil {
		m.timer = time.AfterFunc(Every, m.tell)
		return
	}
	m.timer.Reset(Every)
}

// tell sends a report, unless there is nothing worth it.
func (m *Meter) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.armed = false
	if m.closed {
		return
	}
	now := time.Now()
	late := m.late(now)
	if late < worth && now.Sub(m.told) < calm {
		m.arm()
		return
	}
	since := min(max(now.Sub(m.told), Every), calm+Every) // before that there was nothing
	body, err := json.Marshal(report{
		Late: int64(late), Rate: float64(m.begin()) / since.Seconds(), Accounts: m.company.since(m.told),
	})
	m.told = now
	if err != nil {
		m.log.Error("lateness cannot be told", slog.Any("error", err))
		return
	}
	_ = m.nc.Publish(m.subject, body) // The next one follows.
}

// late is how late messages were on average since the last report.
func (m *Meter) late(now time.Time) time.Duration {
	var all sums
	for _, l := range m.streams {
		if l.taken.count > 0 {
			all.count += l.taken.count
			all.sum += max(l.taken.sum-time.Duration(l.taken.count)*l.base.update(l.least, now), 0)
		}
	}
	return all.mean() + m.waited.mean()
}

// begin begins the next report, and returns how many messages were taken for the last one.
func (m *Meter) begin() int {
	count := 0
	for _, l := range m.streams {
		count += l.count
		l.count, l.taken = 0, sums{}
	}
	m.waited = sums{}
	return count
}

// Close ends the reports.
func (m *Meter) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

// line is what is known of a stream. Each has the clock of the server that leads it.
type line struct {
	at    time.Time     // when a message was taken last
	age   time.Duration // of that one
	count int           // taken since the last report
	taken sums          // from being stored to being taken, since then
	least time.Duration // of those
	base  base
}

// took takes the age of a message. What is taken in the order in which it was stored can be older than the one
// before it by no more than the time between them, and younger than the youngest only if that one had to wait:
// otherwise a clock was stepped, or another server leads, and what was known says nothing any more.
func (l *line) took(age time.Duration, now time.Time) {
	switch {
	case l.at.IsZero():
	case age-l.age > now.Sub(l.at)+worth:
		l.base, l.taken = base{}, sums{}
	case l.taken.count > 0 && age < l.least-worth && l.base.above(age+worth):
		l.taken = sums{}
	}
	l.at, l.age = now, age
	if l.taken.count == 0 || age < l.least {
		l.least = age
	}
	l.taken.add(age)
	l.count++
}

// base is the least wait of the last half minute or the one before. What took longer ever since is the
// new least, within a minute.
type base struct {
	since    time.Time
	now, old time.Duration
	known    bool // there is an old one
}

func (b *base) update(least time.Duration, now time.Time) time.Duration {
	switch {
	case b.since.IsZero():
		b.since, b.now = now, least
	case now.Sub(b.since) >= remembered:
		b.old, b.known = b.now, now.Sub(b.since) < 2*remembered
		b.since, b.now = now, least
	default:
		b.now = min(b.now, least)
	}
	return b.least()
}

func (b *base) least() time.Duration {
	if b.known {
		return min(b.now, b.old)
	}
	return b.now
}

// above says whether all that is known waited longer than that.
func (b *base) above(age time.Duration) bool { return b.since.IsZero() || b.least() > age }
