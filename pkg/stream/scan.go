package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Scan says which messages of a stream are wanted.
type Scan struct {
	// Filter is a subject pattern; empty for all.
	Filter string
	// From is the first sequence.
	From uint64
	// Since, if set, takes the place of From: the first message stored at or after it.
	Since time.Time
	// Ago, if positive, takes the place of Since: that long before now by the server's own clock,
	// which is what it compares with. A clock of ours that was stepped moves nothing.
	Ago time.Duration
	// Parts reads that many ranges of sequences side by side, so messages come out of order.
	// Only without Since and Ago; at most 8.
	Parts int
	// Page is how many messages are asked for at a time, for a reader that will soon have enough;
	// 0 takes a size that suits a long scan.
	Page int
	// Bare asks for bodies alone, which costs the server a quarter. Messages then come without Subject
	// and Header, but with both where the stream has changed since the scan began, or has very many
	// gaps; and those of a part come a page at a time.
	Bare bool
}

// page is the size of a page.
func (s Scan) page() int {
	if s.Page <= 0 {
		return pageMessages
	}
	return min(s.Page, pageMessages)
}

const (
	pageMessages = 2000
	pageBytes    = 4 << 20
	maxParts     = 8
	// scanSilence is how long a page may take before it is asked for again.
	scanSilence = 10 * time.Second
	// scanTries is how often in a row a page may stay away.
	scanTries = 3
)

// Scan gives the messages stored when it began to fn, by one goroutine and in order of sequence
// within a part. It stops at fn's first error and returns it. It reads whole pages from any
// replica, and what a replica does not have yet is looked for at the leader.
//
// It makes no consumer. On a work queue a consumer has to acknowledge, so one that only reads keeps
// everything pending; and the server walks through all that is pending at every purge of a subject,
// which is what releasing a record is.
func (c *Client) Scan(ctx context.Context, stream string, scan Scan, fn func(*Stored) error) error {
	var state jetstream.StreamState
	var now time.Time // by the server's clock
	r := &scanner{c: c, stream: stream, scan: scan, fn: fn, arrived: newMailbox()}
	err := c.retry(ctx, func(ctx context.Context) error {
		s, err := c.js.Stream(ctx, stream)
		if err == nil {
			state, now = s.CachedInfo().State, s.CachedInfo().TimeStamp
		}
		if err == nil && scan.Bare {
			err = r.learnGone(ctx, s)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	if state.Msgs == 0 {
		return nil
	}
	if scan.Ago > 0 {
		r.scan.Since = now.Add(-scan.Ago)
	}
	r.plan(state.FirstSeq, state.LastSeq)
	r.inbox = c.nc.NewInbox() + "."
	sub, err := r.arrived.subscribe(c.nc, r.inbox+"*.*")
	if err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("scan %s: %w", stream, err)
	}
	return nil
}

// scanner is one run of Scan.
type scanner struct {
	c       *Client
	stream  string
	scan    Scan
	fn      func(*Stored) error
	inbox   string
	arrived *mailbox
	parts   []part
	gone    []uint64 // sequences, in order, that had no message when it began
	open    int      // parts that are not done
}

// part is a range of sequences that is read page by page.
type part struct {
	next, end uint64
	since     time.Time // for the first page, in the place of next
	page      int       // number of the page that is awaited; replies of others are stale
	last      string    // sequence of the page's last message so far, as the header says it
	tries     int
	heard     time.Time
	done      bool

	from    uint64      // first sequence that the page may have
	given   uint64      // messages of the page so far that have headers
	bare    bool        // whether it was asked for without headers
	bodies  []*nats.Msg // of it so far
	headers bool        // whether the next page is to have headers
}

// plan divides what there is.
func (r *scanner) plan(first, last uint64) {
	from := max(first, r.scan.From)
	if from > last {
		return
	}
	if !r.scan.Since.IsZero() {
		r.parts = []part{{next: from, end: last, since: r.scan.Since}}
		r.open = 1
		return
	}
	n := uint64(min(max(r.scan.Parts, 1), maxParts))
	step := (last-from)/n + 1
	for start := from; start <= last; start += step {
		r.parts = append(r.parts, part{next: start, end: min(start+step-1, last)})
	}
	r.open = len(r.parts)
}

func (r *scanner) run(ctx context.Context) error {
	for i := range r.parts {
		if err := r.ask(i); err != nil {
			return err
		}
	}
	const look = time.Second
	tick := time.NewTicker(look)
	defer tick.Stop()
	reconnects := r.c.nc.Stats().Reconnects
	for r.open > 0 {
		select {
		case <-r.arrived.filled:
			if err := r.takeAll(ctx); err != nil {
				return err
			}
		case now := <-tick.C:
			if !r.arrived.empty() {
				continue
			}
			again := r.c.nc.Stats().Reconnects
			if err := r.repeat(now, again != reconnects); err != nil {
				return err
			}
			reconnects = again
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ask requests the next page of a part.
func (r *scanner) ask(i int) error {
	p := &r.parts[i]
	req := request{Seq: p.next, NextFor: r.scan.Filter, Batch: r.scan.page(), MaxBytes: pageBytes}
	if !p.since.IsZero() {
		since := p.since.UTC()
		req.Seq, req.StartTime = 0, &since
	}
	p.bare = r.scan.Bare && !p.headers && p.since.IsZero() && r.scan.Filter == ""
	p.from, p.given, p.bodies = p.next, 0, p.bodies[:0]
	req.NoHeaders = p.bare
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	p.page++
	p.last, p.heard = "0", time.Now()
	reply := r.inbox + strconv.Itoa(i) + "." + strconv.Itoa(p.page)
	return r.c.nc.PublishRequest("$JS.API.DIRECT.GET."+r.stream, reply, body)
}

// repeat asks again for pages that stay away, or that went with a connection.
func (r *scanner) repeat(now time.Time, reconnected bool) error {
	for i := range r.parts {
		p := &r.parts[i]
		if p.done || now.Sub(p.heard) < scanSilence && !reconnected {
			continue
		}
		if p.tries++; p.tries > scanTries {
			return fmt.Errorf("no answer at sequence %d: %w", p.next, nats.ErrTimeout)
		}
		if err := r.ask(i); err != nil {
			return err
		}
	}
	return nil
}

// takeAll sorts the replies that arrived.
func (r *scanner) takeAll(ctx context.Context) error {
	for _, m := range r.arrived.take() {
		if err := r.take(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// take sorts one reply.
func (r *scanner) take(ctx context.Context, m *nats.Msg) error {
	index, page, ok := strings.Cut(m.Subject[len(r.inbox):], ".")
	i, err := strconv.Atoi(index)
	if !ok || err != nil || i >= len(r.parts) {
		return nil //nolint:nilerr // not one of ours
	}
	p := &r.parts[i]
	if p.done || page != strconv.Itoa(p.page) {
		return nil // of a page that was asked for again
	}
	p.heard = time.Now()
	switch status := m.Header.Get("Status"); {
	case p.bare && len(m.Header) == 0:
		p.bodies = append(p.bodies, m)
		return nil
	case len(m.Data) > 0 || status == "":
		return r.message(i, m)
	case status == "204":
		if p.bare && p.last == "0" {
			if done, err := r.bodies(i, m); !done {
				return err
			}
		} else {
			stood, _ := r.stood(p.from, p.next-1)
			p.headers = stood != p.given
		}
		if m.Header.Get(jetstream.LastSequenceHeader) != p.last {
			return r.ask(i) // a message of the page is missing
		}
		p.tries = 0
		if p.last == "0" || m.Header.Get("Nats-Num-Pending") == "0" {
			return r.exhausted(ctx, i)
		}
		return r.ask(i)
	case status == "404":
		return r.exhausted(ctx, i)
	case status == "503":
		return nil // nobody answers now; asked again after the silence
	default:
		return fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
	}
}

// message gives one message of a part's page to fn.
func (r *scanner) message(i int, m *nats.Msg) error {
	p := &r.parts[i]
	if m.Header.Get(jetstream.LastSequenceHeader) != p.last {
		return r.ask(i) // one before it is missing
	}
	stored, err := directMsg(m)
	if err != nil {
		return err
	}
	if stored.Sequence > p.end {
		r.finish(p)
		return nil
	}
	p.last, p.next, p.since = m.Header.Get(jetstream.SequenceHeader), stored.Sequence+1, time.Time{}
	p.given++
	if err := r.fn(stored); err != nil {
		return err
	}
	if p.next > p.end {
		r.finish(p)
	}
	return nil
}

func (r *scanner) finish(p *part) {
	if !p.done {
		p.done = true
		r.open--
	}
}

// exhausted ends a part of which the replica that answered has no more. If it is not the only
// one it may be behind: the leader knows what follows.
func (r *scanner) exhausted(ctx context.Context, i int) error {
	p := &r.parts[i]
	if r.c.cfg.Replicas == 1 {
		r.finish(p)
		return nil
	}
	filter := r.scan.Filter
	if filter == "" {
		filter = ">"
	}
	req := request{Seq: p.next, NextFor: filter}
	if !p.since.IsZero() {
		req.Seq, req.StartTime = 0, &p.since
	}
	m, err := r.c.fromLeader(ctx, r.stream, req)
	switch {
	case errors.Is(err, ErrNotFound):
		r.finish(p)
		return nil
	case err != nil:
		return err
	case m.Sequence > p.end:
		r.finish(p)
		return nil
	}
	// Read it here, so that a replica that stays behind cannot keep us asking for it.
	p.next, p.since = m.Sequence+1, time.Time{}
	if err := r.fn(m); err != nil {
		return err
	}
	return r.ask(i)
}

// GetAll reads many messages by their sequences in one go. The result has the order of the
// sequences, with nil for each that the stream does not hold.
func (c *Client) GetAll(ctx context.Context, stream string, sequences []uint64) ([]*Stored, error) {
	const chunk = 512
	found := make([]*Stored, len(sequences))
	for at := 0; at < len(sequences); at += chunk {
		end := min(at+chunk, len(sequences))
		if err := c.getChunk(ctx, stream, sequences[at:end], found[at:end]); err != nil {
			return nil, fmt.Errorf("read %s: %w", stream, err)
		}
	}
	return found, nil
}

// getChunk sends every request before it waits for the first answer.
func (c *Client) getChunk(ctx context.Context, stream string, sequences []uint64, found []*Stored) error {
	arrived := make(chan *nats.Msg, len(sequences))
	inbox := c.nc.NewInbox() + "."
	sub, err := c.nc.ChanSubscribe(inbox+"*", arrived)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	subject := "$JS.API.DIRECT.GET." + stream
	for i, seq := range sequences {
		body := fmt.Appendf(nil, `{"seq":%d}`, seq)
		if err := c.nc.PublishRequest(subject, inbox+strconv.Itoa(i), body); err != nil {
			return err
		}
	}
	asked := make([]bool, len(sequences)) // answered, and the answer stands
	timeout := time.NewTimer(readTimeout)
	defer timeout.Stop()
	for waiting := len(sequences); waiting > 0; {
		select {
		case m := <-arrived:
			waiting--
			i, err := strconv.Atoi(m.Subject[len(inbox):])
			if err != nil || i >= len(found) {
				continue
			}
			stored, err := directMsg(m)
			if err == nil {
				found[i] = stored
			}
			asked[i] = err == nil || errors.Is(err, ErrNotFound) && c.cfg.Replicas == 1
		case <-timeout.C:
			waiting = 0
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// What a replica did not have, or nobody answered, is asked for one by one.
	for i, seq := range sequences {
		if asked[i] {
			continue
		}
		stored, err := c.Get(ctx, stream, seq)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		found[i] = stored
	}
	return nil
}
