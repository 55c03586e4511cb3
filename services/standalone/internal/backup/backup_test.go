package backup_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/topology"
	"github.com/postrider/postrider/services/standalone/internal/backup"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, nc *nats.Conn) (*stream.Client, *eventstream.Stream) {
	t.Helper()
	cfg := stream.Default()
	cfg.Segments = 2
	c, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = topology.Ensure(t.Context(), c)
	require.NoError(t, err)
	events, err := eventstream.Ensure(t.Context(), c, eventstream.Default())
	require.NoError(t, err)
	_, err = deliverystream.Ensure(t.Context(), c, deliverystream.Default())
	require.NoError(t, err)
	_, err = journal.Ensure(t.Context(), c, journal.Default())
	require.NoError(t, err)
	_, err = config.Ensure(t.Context(), c)
	require.NoError(t, err)
	return c, events
}

// first and second are accounts of two segments.
const first, second = "acc_1", "acc_4"

func publish(t *testing.T, events *eventstream.Stream, account string, n int) {
	t.Helper()
	stored := make(chan error, n)
	for i := range n {
		ev := &recordv1.Event{
			Id: string(postrider.NewEventID()), AccountId: account, Type: "a.b", DedupKey: strconv.Itoa(i), AcceptTime: timestamppb.Now(),
			Data: make([]byte, 10<<10), // so that an archive is many chunks
		}
		require.NoError(t, events.Publish(t.Context(), ev, func(_ eventstream.Stored, err error) { stored <- err }))
	}
	for range n {
		require.NoError(t, <-stored)
	}
}

func silent(string, int, int, int64, int64) {}

// steps are what was told of how far a backup is.
type steps []step

type step struct {
	stream          string
	number, streams int
	done, total     int64
}

func (s *steps) tell(stream string, number, streams int, done, total int64) {
	*s = append(*s, step{stream, number, streams, done, total})
}

// of requires that every stream was told of in its turn, and returns how many bytes were done.
func (s *steps) of(t *testing.T, m *backup.Manifest) int64 {
	t.Helper()
	last := step{}
	for _, each := range *s {
		require.Equal(t, m.Streams[each.number-1].Name, each.stream)
		require.Len(t, m.Streams, each.streams)
		require.GreaterOrEqual(t, each.number, last.number)
		require.GreaterOrEqual(t, each.done, last.done)
		last = each
	}
	require.Len(t, m.Streams, last.number)
	return last.done
}

// What is restored is what was taken, with how far routing was; and EVENTS is another incarnation.
func TestARestoreBringsBackWhatWasTaken(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).NC(t)
	c, events := open(t, nc)
	publish(t, events, first, 100)
	publish(t, events, second, 50)
	for _, seg := range events.Segments() {
		_, err := seg.Router(t.Context())
		require.NoError(t, err)
		require.NoError(t, seg.Checkpoint(t.Context(), 40))
	}
	for _, name := range []string{"OTHERS", "EVENTS_others"} {
		_, err := c.JetStream().CreateStream(t.Context(), jetstream.StreamConfig{Name: name})
		require.NoError(t, err)
	}

	dir := filepath.Join(t.TempDir(), "backup")
	var seen steps
	taken, err := backup.Take(t.Context(), nc, dir, seen.tell)
	require.NoError(t, err)
	require.Equal(t, "EVENTS", taken.Streams[1].Name)
	require.Equal(t, "EVENTS_1", taken.Streams[2].Name)
	require.EqualValues(t, 50, taken.Streams[2].Messages)
	archives := seen.of(t, taken)
	require.Greater(t, archives, int64(100), "bytes of archives")
	_, err = backup.Take(t.Context(), nc, dir, silent)
	require.ErrorContains(t, err, "new folder")

	_, err = backup.Restore(t.Context(), nc, dir, silent)
	require.ErrorContains(t, err, "already", "only into an empty one")

	empty := natstest.Start(t).NC(t)
	seen = steps{}
	_, err = backup.Restore(t.Context(), empty, dir, seen.tell)
	require.NoError(t, err)
	require.Equal(t, archives, seen.of(t, taken))
	require.Equal(t, archives, seen[0].total, "known from the beginning")
	js, err := jetstream.New(empty)
	require.NoError(t, err)
	for _, name := range []string{"OTHERS", "EVENTS_others"} {
		_, err = js.Stream(t.Context(), name)
		require.Error(t, err, "what is not Postrider's is left alone")
	}
	_, restored := open(t, empty)
	for account, want := range map[postrider.AccountID]uint64{first: 100, second: 50} {
		seg := restored.Of(account)
		consumer, err := js.Consumer(t.Context(), seg.Name(), "router")
		require.NoError(t, err, "it comes with how far routing was")
		require.Equal(t, want, consumer.CachedInfo().NumPending)
		usage, err := seg.Usage(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, usage.Messages)
		require.NotEqual(t, events.Incarnation(account), restored.Incarnation(account))
	}
}

func TestABackupThatIsNotWholeIsRefused(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).NC(t)
	dir := t.TempDir()
	_, err := backup.Restore(t.Context(), nc, dir, silent)
	require.ErrorContains(t, err, "no whole backup")

	_, err = backup.Take(t.Context(), nc, filepath.Join(dir, "new"), silent)
	require.ErrorContains(t, err, "no stream EVENTS")
	_, err = os.Stat(filepath.Join(dir, "new"))
	require.ErrorIs(t, err, os.ErrNotExist)

	_, events := open(t, nc)
	publish(t, events, first, 50)
	whole := filepath.Join(dir, "whole")
	_, err = backup.Take(t.Context(), nc, whole, silent)
	require.NoError(t, err)
	archive := filepath.Join(whole, "EVENTS.archive")
	info, err := os.Stat(archive)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(archive, info.Size()/2))
	_, err = backup.Restore(t.Context(), natstest.Start(t).NC(t), whole, silent)
	require.ErrorContains(t, err, "restore EVENTS")
}
