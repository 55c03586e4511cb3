package journal

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Bounds of a message.
const (
	maxEntries = 64
	maxBytes   = 256 << 10
	linger     = 2 * time.Millisecond
	// queueLength is how many entries wait for their message before Write blocks.
	queueLength = 4096
	// window is how many messages wait for their acknowledgement.
	window = 256
)

// Writer packs entries into messages: at most 64 entries and 256 KiB, after at most 2 ms. It is
// safe for use by many goroutines.
type Writer struct {
	publisher *stream.Publisher
	queue     chan item
	ended     chan struct{}
	last      int    // bytes of the last message: about what the next will take; run's own
	scratch   []byte // for one entry; run's own

	mu      sync.RWMutex // held for reading while an entry is queued
	started sync.Once
	closed  bool
}

type item struct {
	shard int
	entry *recordv1.JournalEntry
	done  func(error)
}

// NewWriter makes a writer; its goroutine starts on first use and ends with Close.
func (j *Journal) NewWriter(name string) *Writer {
	return &Writer{
		publisher: j.c.NewPublisher("journal of "+name, window),
		queue:     make(chan item, queueLength), ended: make(chan struct{}),
	}
}

// Write queues an entry of a shard, or of routing (Routed). It blocks while the queue is full,
// until ctx ends; an error means that done will not be called. Done is called once, when the
// message that holds the entry is stored or its fate is known otherwise; it must not block. The
// entry belongs to the writer until then.
func (w *Writer) Write(ctx context.Context, shard int, e *recordv1.JournalEntry, done func(error)) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return stream.ErrClosed
	}
	w.started.Do(func() { go w.run() }) //nolint:contextcheck // the writer outlives the call
	select {
	case w.queue <- item{shard, e, done}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close publishes what is queued and waits for it, until ctx ends.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		w.started.Do(func() { go w.run() }) //nolint:contextcheck // the writer outlives the call
		close(w.queue)
	}
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-ctx.Done():
		return fmt.Errorf("close journal writer: %w", ctx.Err())
	}
	if err := w.publisher.Flush(ctx); err != nil {
		return fmt.Errorf("close journal writer: %w", err)
	}
	w.publisher.Close()
	return nil
}

// pack is a message that is being filled: a JournalBatch as it is encoded, entry after entry, so that
// each entry is encoded once.
type pack struct {
	data  []byte
	dones []func(error)
}

// run fills one pack for each shard and sends it when it is full or has lingered.
func (w *Writer) run() {
	defer close(w.ended)
	packs := make(map[int]*pack)
	timer := time.NewTimer(linger)
	timer.Stop()
	for waiting := false; ; {
		select {
		case it, open := <-w.queue:
			if !open {
				w.sendAll(packs)
				return
			}
			w.add(packs, it)
			if !waiting {
				timer.Reset(linger)
				waiting = true
			}
		case <-timer.C:
			waiting = false
			w.sendAll(packs)
		}
	}
}

func (w *Writer) add(packs map[int]*pack, it item) {
	entry, err := fit(w.scratch[:0], it.entry)
	if err != nil {
		it.done(fmt.Errorf("encode journal: %w", err))
		return
	}
	w.scratch = entry
	p := packs[it.shard]
	if p != nil && len(p.data)+len(entry)+overhead > maxBytes {
		w.send(it.shard, p)
		p = nil
	}
	if p == nil {
		p = &pack{data: make([]byte, 0, max(w.last, len(entry)+overhead))}
		packs[it.shard] = p
	}
	p.data = protowire.AppendBytes(protowire.AppendTag(p.data, entriesField, protowire.BytesType), entry)
	p.dones = append(p.dones, it.done)
	if len(p.dones) >= maxEntries {
		w.send(it.shard, p)
		delete(packs, it.shard)
	}
}

const (
	// entriesField is JournalBatch.entries.
	entriesField = 1
	// overhead is what an entry takes beside its own bytes, at most: its tag and its length.
	overhead = 6
)

// fit appends an entry in a form that fits into a message: an entry that is too big loses its recorded bodies, and if
// that is not enough its recorded headers, never its place.
func fit(b []byte, e *recordv1.JournalEntry) ([]byte, error) {
	out, err := appendEntry(b, e)
	at := e.GetAttempted()
	if err != nil || at == nil || len(out)+overhead <= maxBytes {
		return out, err
	}
	at.ResponseBody, at.ResponseBodyTruncated = nil, true
	if len(at.GetRequestBody()) > 0 {
		at.RequestBody, at.RequestBodyTruncated = nil, true
	}
	if out, err = appendEntry(out[:0], e); err != nil || len(out)+overhead <= maxBytes {
		return out, err
	}
	at.ResponseHeaders, at.RequestHeaders = nil, nil
	return appendEntry(out[:0], e)
}

func (w *Writer) sendAll(packs map[int]*pack) {
	for shard, p := range packs {
		w.send(shard, p)
		delete(packs, shard)
	}
}

// send publishes a message without an id: a repeat stores its entries twice, which every reader
// bears.
func (w *Writer) send(shard int, p *pack) {
	if len(p.dones) == 0 {
		return
	}
	w.last = len(p.data)
	fail := func(err error) {
		for _, done := range p.dones {
			done(err)
		}
	}
	// The window is the only bound on how long this blocks; the publisher gives every message up
	// when its budget ends, so it does end.
	err := w.publisher.Publish(context.Background(), &nats.Msg{Subject: subject(shard), Data: p.data}, func(_ stream.Ack, err error) { fail(err) })
	if err != nil {
		fail(err)
	}
}
