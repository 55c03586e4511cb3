// Package backup takes the record out of NATS, while everything runs, and puts it into an empty
// one. It knows which streams and buckets there are and in which order they must be taken; their
// contents it never looks at. The archives are the server's own, as the nats command line makes
// them.
package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/topology"
)

// order is that in which streams are taken. What moves from one to another while they are taken must
// be in the later one, or in both, never in neither; so each stands before those that its messages
// move on to. What moves within one is in its tail.
//
// A redrive is the one that goes back, from DEADLETTERS to RETRIES: none may run meanwhile.
var order = []string{
	"KV_jobs",     // a replay's checkpoint before the deliveries that it has made since
	"EVENTS",      // with how far routing is, before what it was routed to
	"EVENTS_",     // its other segments: nothing moves from one to another
	"DELIVERIES_", // before where an outcome leads
	"RETRIES_",
	"DEADLETTERS",
	"JOURNAL",
	// A webhook that is not there takes its deliveries with it, so the configuration comes after
	// them; and what an object refers to, or reserved, after the object.
	"KV_cancellations", "KV_failing", "KV_notices", "KV_webhooks", "KV_event_types", "KV_keys", "KV_accounts", "KV_names",
	"KV_counters", "KV_idempotency", "KV_topology", "KV_checkpoints",
}

// withConsumers says of a stream whether its consumer goes along, as those of EVENTS do: they say what
// is routed. The others begin anew: a work queue holds nothing but what is unfinished, and a delivery log
// that is built again wants the whole journal. Leases and registrations (KV_shards, KV_members,
// KV_announced) are of processes that will not be there.
func withConsumers(stream string) bool {
	return stream == "EVENTS" || strings.HasPrefix(stream, "EVENTS_")
}

// place is where a stream stands in the order; false if it is not to be taken. A name that ends in _ is
// that of many, each with a number.
func place(stream string) (int, bool) {
	i := slices.IndexFunc(order, func(name string) bool {
		number, many := strings.CutPrefix(stream, name)
		_, err := strconv.Atoi(number)
		return stream == name || strings.HasSuffix(name, "_") && many && err == nil
	})
	return i, i >= 0
}

// Files of a backup. The manifest is written last: without it a backup is not whole.
const (
	manifestFile = "manifest.json"
	dataSuffix   = ".archive"
	metaSuffix   = ".json"
)

// Manifest says what a backup holds.
type Manifest struct {
	// Started is when the first stream was taken, Finished when the last was whole.
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Streams in the order in which they were taken.
	Streams []Stream `json:"streams"`
}

// Stream is one stream of a backup.
type Stream struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	// LastSequence of a stream of EVENTS is that of the last of its events that is in the backup.
	LastSequence uint64 `json:"last_sequence"`
	// Tail is how many messages go along with the copy, of those that were stored while it was made.
	Tail int `json:"tail,omitempty"`
}

// Progress is told how far a backup or a restore is: the stream, which of how many it is, and of
// archives so many bytes of so many. Of a backup the last is 0: nobody knows how well it compresses.
type Progress func(stream string, number, streams int, done, total int64)

// Take writes a backup into a new folder. It may run while everything runs, but no redrive may.
func Take(ctx context.Context, nc *nats.Conn, dir string, tell Progress) (*Manifest, error) {
	names, err := streamNames(ctx, nc)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool { _, ok := place(name); return !ok })
	if !slices.Contains(names, "EVENTS") {
		return nil, errors.New("there is no stream EVENTS: no Postrider has run on this NATS")
	}
	slices.SortFunc(names, func(a, b string) int {
		i, _ := place(a)
		j, _ := place(b)
		return cmp.Or(cmp.Compare(i, j), cmp.Compare(a, b))
	})
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("a backup goes into a new folder: %w", err)
	}
	before, err := settled(ctx, nc)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Started: time.Now().UTC()}
	var done int64
	for i, name := range names {
		s, err := take(ctx, nc, dir, name, func(n int) {
			done += int64(n)
			tell(name, i+1, len(names), done, 0)
		})
		if err != nil {
			return nil, fmt.Errorf("take %s: %w", name, err)
		}
		m.Streams = append(m.Streams, s)
	}
	// Deliveries that move from shard to shard may have been in neither when it was taken.
	if after, err := settled(ctx, nc); err != nil || after != before {
		return nil, errors.Join(err, errUnsettled)
	}
	m.Finished = time.Now().UTC()
	return m, write(filepath.Join(dir, manifestFile), m)
}

// errUnsettled says that deliveries may be on their way from shard to shard.
var errUnsettled = errors.New("the number of shards is being changed: take a backup when that is finished")

// settled is into how many shards deliveries are split; an error while that changes.
func settled(ctx context.Context, nc *nats.Conn) (postrider.Layout, error) {
	c, err := stream.New(nc, stream.Default())
	if err != nil {
		return postrider.Layout{}, err
	}
	defer c.Close()
	layout, err := topology.Inspect(ctx, c)
	switch {
	case errors.Is(err, topology.ErrNone):
		return layout, nil
	case err == nil && layout.Before != 0:
		return layout, errUnsettled
	}
	return layout, err
}

// take writes one stream and what describes it, with a tail where messages move within it, and tells how
// many bytes more are written.
func take(ctx context.Context, nc *nats.Conn, dir, name string, more func(int)) (s Stream, err error) {
	switch {
	case goesRound(name):
		var rest *tail
		if rest, err = beginTail(nc, dir, name); err != nil {
			return s, err
		}
		if s, err = takeArchive(ctx, nc, dir, name, more); err != nil {
			return s, errors.Join(err, rest.close())
		}
		s.Tail, err = rest.end(ctx, nc, s.LastSequence, more)
	case isBucket(name):
		var keys *touched
		if keys, err = beginTouched(nc, name); err != nil {
			return s, err
		}
		if s, err = takeArchive(ctx, nc, dir, name, more); err != nil {
			return s, errors.Join(err, keys.close())
		}
		s.Tail, err = keys.end(ctx, nc, dir, s.LastSequence)
	default:
		s, err = takeArchive(ctx, nc, dir, name, more)
	}
	return s, err
}

// takeArchive writes the server's copy of a stream.
func takeArchive(ctx context.Context, nc *nats.Conn, dir, name string, more func(int)) (Stream, error) {
	data, err := create(filepath.Join(dir, name+dataSuffix))
	if err != nil {
		return Stream{}, err
	}
	more(0)
	a, err := snapshot(ctx, nc, name, withConsumers(name), counted{data, more})
	if err := errors.Join(err, closeFile(data)); err != nil {
		return Stream{}, err
	}
	var st state
	if err := json.Unmarshal(a.State, &st); err != nil {
		return Stream{}, err
	}
	return Stream{Name: name, Messages: st.Messages, LastSequence: st.LastSequence}, write(filepath.Join(dir, name+metaSuffix), a)
}

// counted tells how much was written.
type counted struct {
	to   io.Writer
	more func(int)
}

func (c counted) Write(part []byte) (int, error) {
	n, err := c.to.Write(part)
	c.more(n)
	return n, err
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names the folder
}

// closeFile closes a file that is on the disk then.
func closeFile(f *os.File) error { return errors.Join(f.Sync(), f.Close()) }

func write(path string, what any) error {
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	f, err := create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, closeFile(f))
}

func read(path string, into any) error {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// Restore puts a backup into a NATS that holds no Postrider. No service may run. In the end EVENTS
// is said to be another than the one that was taken: keys in Redis that were finished after the
// backup name events that are gone.
func Restore(ctx context.Context, nc *nats.Conn, dir string, tell Progress) (*Manifest, error) {
	m := &Manifest{}
	if err := read(filepath.Join(dir, manifestFile), m); err != nil {
		return nil, fmt.Errorf("%s is no whole backup: %w", dir, err)
	}
	there, err := streamNames(ctx, nc)
	if err != nil {
		return nil, err
	}
	for _, name := range there {
		if slices.ContainsFunc(m.Streams, func(s Stream) bool { return s.Name == name }) {
			return nil, fmt.Errorf("there is a stream %s already: a backup is restored into an empty NATS, before any service is started", name)
		}
	}
	var done, total int64
	for _, s := range m.Streams {
		info, err := os.Stat(filepath.Join(dir, s.Name+dataSuffix))
		if err != nil {
			return nil, fmt.Errorf("%s is no whole backup: %w", dir, err)
		}
		total += info.Size()
	}
	for i, s := range m.Streams {
		err := put(ctx, nc, dir, s, func(n int) {
			done += int64(n)
			tell(s.Name, i+1, len(m.Streams), done, total)
		})
		if err != nil {
			return nil, fmt.Errorf("restore %s: %w", s.Name, err)
		}
	}
	if err := putTails(ctx, nc, dir, m.Streams); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	return m, eventstream.Restored(ctx, js)
}

// put restores one stream, and tells how many bytes more of its archive were sent.
func put(ctx context.Context, nc *nats.Conn, dir string, s Stream, more func(int)) error {
	var a about
	if err := read(filepath.Join(dir, s.Name+metaSuffix), &a); err != nil {
		return err
	}
	data, err := os.Open(filepath.Join(dir, s.Name+dataSuffix)) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	defer func() { _ = data.Close() }() // it was only read
	more(0)
	st, err := restore(ctx, nc, s.Name, a, io.TeeReader(data, counted{io.Discard, more}))
	if err != nil {
		return err
	}
	if st.Messages != s.Messages && (!shrinks(s.Name) || st.Messages > s.Messages) {
		return fmt.Errorf("it has %d messages, the backup has %d", st.Messages, s.Messages)
	}
	if isBucket(s.Name) && s.Tail > 0 {
		return putTouched(ctx, nc, dir, s.Name)
	}
	return nil
}

// shrinks says whether an archive may have less than the server counted when it began to write it: from a
// work queue things go on to be removed, and from a bucket the values that others replace.
func shrinks(stream string) bool {
	for _, prefix := range []string{"DELIVERIES_", "RETRIES_", "KV_"} {
		if strings.HasPrefix(stream, prefix) {
			return true
		}
	}
	return false
}
