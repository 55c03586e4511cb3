package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	headersBatch = 20_000
	// headersExpires bounds the wait for a message that was removed while it was still to come.
	headersExpires = time.Second
	// headersIdle is how long the server keeps a scan's consumer whose process is gone.
	headersIdle = 10 * time.Second
)

// errFallback says that a scan of headers has to go on by pages.
var errFallback = errors.New("scan by pages")

// scanHeaders reads headers through a consumer that never acknowledges, which costs the server a
// sixth of reading pages. It returns the sequence up to which fn has everything. With errFallback
// the rest is for pages: a work queue lets one consumer at a time see a subject, so another scan
// may be in the way, and a message may get lost on the way here.
//
// Only for a single replica: with more, every delivery is agreed on between them.
func (c *Client) scanHeaders(ctx context.Context, stream string, scan Scan, last uint64, fn func(*Stored) error) (uint64, error) {
	con, err := c.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Description:       "reads headers and acknowledges nothing",
		AckPolicy:         jetstream.AckExplicitPolicy, // all that a work queue takes
		AckWait:           time.Hour,                   // nothing is to come again
		MaxAckPending:     -1,
		MaxDeliver:        -1,
		FilterSubject:     scan.Filter,
		HeadersOnly:       true,
		MemoryStorage:     true,
		InactiveThreshold: headersIdle,
	})
	if err != nil {
		return 0, errors.Join(errFallback, err)
	}
	name := con.CachedInfo().Name
	pending := con.CachedInfo().NumPending
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		_ = c.js.DeleteConsumer(ctx, stream, name) // else it ends by itself
	}()
	if pending == 0 {
		return last, nil
	}
	h := &headerScan{c: c, con: con, scan: scan, fn: fn, last: last, arrived: make(chan *nats.Msg, 3*headersBatch)}
	h.subject, h.inbox = "$JS.API.CONSUMER.MSG.NEXT."+stream+"."+name, c.nc.NewInbox()
	sub, err := c.nc.ChanSubscribe(h.inbox, h.arrived)
	if err != nil {
		return 0, errors.Join(errFallback, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	err = h.run(ctx)
	return h.read, err
}

// headerScan is one run of scanHeaders.
type headerScan struct {
	c       *Client
	con     jetstream.Consumer
	scan    Scan
	fn      func(*Stored) error
	subject string
	inbox   string
	arrived chan *nats.Msg
	last    uint64
	read    uint64 // fn has everything up to here
	count   uint64 // messages that came
}

func (h *headerScan) run(ctx context.Context) error {
	// Two requests are under way, so that the server need not wait for us.
	for range 2 {
		if err := h.ask(); err != nil {
			return errors.Join(errFallback, err)
		}
	}
	silence := time.NewTimer(scanSilence)
	defer silence.Stop()
	for {
		select {
		case raw := <-h.arrived:
			if more, err := h.take(ctx, raw); err != nil || !more {
				return err
			}
			if raw.Header.Get("Status") == "" && h.count%headersBatch == 0 {
				silence.Reset(scanSilence)
				if err := h.ask(); err != nil {
					return errors.Join(errFallback, err)
				}
			}
		case <-silence.C:
			// Batches come within far less; something on the way is lost.
			return errFallback
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *headerScan) ask() error {
	return h.c.nc.PublishRequest(h.subject, h.inbox, fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, headersBatch, headersExpires))
}

// take gives one message to fn; more is false at the end.
func (h *headerScan) take(ctx context.Context, raw *nats.Msg) (more bool, err error) {
	switch status := raw.Header.Get("Status"); status {
	case "":
	case "408":
		// What was still to come may have been removed, or is just slow to come.
		info, err := h.con.Info(ctx)
		if err != nil {
			return false, errFallback
		}
		if info.NumPending == 0 && info.Delivered.Consumer == h.count {
			return false, nil
		}
		return true, h.ask()
	default:
		return false, errFallback
	}
	m, ok := newMsg(h.c.nc, raw)
	if h.count++; !ok || m.consumed != h.count {
		return false, errFallback // one before it is missing
	}
	if m.sequence > h.last {
		return false, nil
	}
	if m.sequence >= h.scan.From {
		if err := h.fn(&Stored{Subject: raw.Subject, Sequence: m.sequence, Header: raw.Header}); err != nil {
			return false, err
		}
	}
	h.read = m.sequence
	return m.pending > 0 && m.sequence < h.last, nil
}
