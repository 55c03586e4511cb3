package backup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/topology"
)

// The server copies a stream file by file while it is written to, and files that it begins meanwhile are
// not in the copy (nats-server 2.15). Whoever removes a message because another has taken its place in the
// same stream can so take the one out of a file before it is copied, and have put the other into a file that
// is not. That is how deliveries go round in RETRIES, from a record to a due message to the next record. So
// what is said on a shard's subjects while it is copied goes along with the copy, as its tail, and after the
// copy whatever the stream has come to hold since it began.
//
// Why that is all: a delivery whose message is not in the copy has moved to another one before its file was
// copied. If a process moved it, it published that, and the tail has it. If the server did, by firing a
// record, the due message is there when the stream is read afterwards, or a dispatcher has put a record in
// its place, and published that.

const tailSuffix = ".tail"

const retriesPrefix = "RETRIES_"

// goesRound says whether messages of a stream move within it.
func goesRound(name string) bool { return strings.HasPrefix(name, retriesPrefix) }

// tail is being written. An entry is a retry as it is stored, with its length before it.
type tail struct {
	name string
	subs []*nats.Subscription
	over sync.WaitGroup // the subscriptions

	mu    sync.Mutex
	file  *os.File
	out   *bufio.Writer
	n     int
	bytes int
	err   error // the first of a write
}

// beginTail writes down what is said on the subjects of a shard's records and due messages, until it is
// ended.
func beginTail(nc *nats.Conn, dir, name string) (*tail, error) {
	f, err := create(filepath.Join(dir, name+tailSuffix))
	if err != nil {
		return nil, err
	}
	t := &tail{name: name, file: f, out: bufio.NewWriterSize(f, chunk)}
	for _, kind := range []string{"retries.", "due."} {
		sub, err := nc.Subscribe(kind+strings.TrimPrefix(name, retriesPrefix)+".>", func(m *nats.Msg) { t.add(m.Data) })
		if err == nil {
			t.over.Add(1)
			sub.SetClosedHandler(func(string) { t.over.Done() })
			t.subs = append(t.subs, sub)
			err = sub.SetPendingLimits(-1, -1)
		}
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	// From here on the server gives us everything.
	if err := nc.FlushTimeout(silence); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *tail) add(data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return
	}
	_, err1 := t.out.Write(binary.AppendUvarint(nil, uint64(len(data))))
	_, err2 := t.out.Write(data)
	t.err = errors.Join(err1, err2)
	t.bytes += len(data)
	t.n++
}

// end adds what the stream has come to hold after a sequence, and returns how many entries there are. It tells
// how many bytes.
func (t *tail) end(ctx context.Context, nc *nats.Conn, after uint64, more func(int)) (int, error) {
	c, err := stream.New(nc, stream.Default())
	if err == nil {
		err = c.Scan(ctx, t.name, stream.Scan{From: after + 1}, func(m *stream.Stored) error {
			if !strings.HasPrefix(m.Subject, "anchors.") {
				t.add(m.Data)
			}
			return nil
		})
		c.Close()
	}
	err = errors.Join(err, nc.FlushTimeout(silence), t.close())
	more(t.bytes)
	return t.n, err
}

// close ends the subscriptions when what has come is written.
func (t *tail) close() error {
	var errs []error
	for _, sub := range t.subs {
		errs = append(errs, sub.Drain())
	}
	t.over.Wait()
	for _, sub := range t.subs {
		if dropped, err := sub.Dropped(); err == nil && dropped > 0 {
			errs = append(errs, fmt.Errorf("%d messages on %s were lost on the way", dropped, sub.Subject))
		}
	}
	errs = append(errs, t.err, t.out.Flush(), closeFile(t.file))
	return errors.Join(errs...)
}

// entry is where a tail has the latest retry of a delivery.
type entry struct {
	series, attempts int32
	number           int
}

// putTails stores, of each delivery in a tail, the latest retry as a record, unless a later one stands. It
// comes after everything else: the number of shards says where.
func putTails(ctx context.Context, nc *nats.Conn, dir string, streams []Stream) error {
	if !slices.ContainsFunc(streams, func(s Stream) bool { return goesRound(s.Name) && s.Tail > 0 }) {
		return nil
	}
	_, c, err := topology.Open(ctx, nc)
	if err != nil {
		return err
	}
	defer c.Close()
	retries := retrystream.Open(ctx, c, retrystream.Default())
	defer retries.Close()
	for _, s := range streams {
		if !goesRound(s.Name) || s.Tail == 0 {
			continue
		}
		if err := putTail(ctx, retries, filepath.Join(dir, s.Name+tailSuffix)); err != nil {
			return fmt.Errorf("put back what moved in %s: %w", s.Name, err)
		}
	}
	return nil
}

func putTail(ctx context.Context, retries *retrystream.Streams, path string) error {
	latest := map[string]entry{}
	err := readTail(path, func(number int, r *recordv1.Retry) error {
		p, id := r.GetDelivery().GetProgress(), r.GetDelivery().GetId()
		e := entry{series: p.GetSeries(), attempts: p.GetAttempts(), number: number}
		if before, ok := latest[id]; !ok || e.series > before.series || e.series == before.series && e.attempts >= before.attempts {
			latest[id] = e
		}
		return nil
	})
	if err != nil {
		return err
	}
	results := make(chan error, len(latest))
	sent := 0
	err = readTail(path, func(number int, r *recordv1.Retry) error {
		if latest[r.GetDelivery().GetId()].number != number {
			return nil
		}
		r.Follows = 0
		sent++
		return retries.Put(ctx, r, func(_ retrystream.Place, err error) { results <- err })
	})
	if err != nil {
		return err
	}
	for range sent {
		if err := <-results; err != nil && !errors.Is(err, retrystream.ErrSuperseded) {
			return err
		}
	}
	return nil
}

// readTail gives the retries of a tail to fn, in their order.
func readTail(path string, fn func(number int, r *recordv1.Retry) error) error {
	f, err := os.Open(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	in := bufio.NewReaderSize(f, chunk)
	for number := 0; ; number++ {
		size, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || size > maxEntry {
			return errors.Join(err, errors.New("the tail cannot be read"))
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(in, data); err != nil {
			return err
		}
		r := &recordv1.Retry{}
		if err := proto.Unmarshal(data, r); err != nil {
			return fmt.Errorf("the tail cannot be read: %w", err)
		}
		if err := fn(number, r); err != nil {
			return err
		}
	}
}

// maxEntry is more than a NATS server takes in one message.
const maxEntry = 64 << 20
