//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/test/cluster"
)

// streams looks at the deployment's streams from outside, as an operator does with the nats
// command line; it writes nothing.
type streams struct {
	js     jetstream.JetStream
	client *stream.Client
	kv     jetstream.KeyValue // of shard leases; nil until it is asked for
	shards int                // that have streams
}

func watchStreams(t *testing.T, c *cluster.Cluster) *streams {
	t.Helper()
	nc, err := nats.Connect(c.NATSURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	client, err := stream.New(nc, stream.Default())
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &streams{js: js, client: client, shards: shards}
}

// held is the shards whose lease a replica holds: the value of shard.<n> is the name of the
// instance and something of the run's own.
func (s *streams) held(ctx context.Context, instance string) ([]int, error) {
	if s.kv == nil {
		kv, err := s.js.KeyValue(ctx, "shards")
		if err != nil {
			return nil, err
		}
		s.kv = kv
	}
	var out []int
	for n := range s.shards {
		e, err := s.kv.Get(ctx, "shard."+strconv.Itoa(n))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // nobody's yet
		}
		if err != nil {
			return nil, fmt.Errorf("read the lease of shard %d: %w", n, err)
		}
		if strings.HasPrefix(string(e.Value()), instance+".") {
			out = append(out, n)
		}
	}
	return out, nil
}

// all is every shard that has streams.
func (s *streams) all() []int {
	all := make([]int, s.shards)
	for i := range all {
		all[i] = i
	}
	return all
}

// unacked is how many messages of some shards were given to a dispatcher and not acknowledged,
// first attempts and retries.
func (s *streams) unacked(ctx context.Context, of []int) (int, error) {
	sum := 0
	for _, n := range of {
		for _, name := range []string{"DELIVERIES_", "RETRIES_"} {
			c, err := s.js.Consumer(ctx, name+strconv.Itoa(n), "dispatcher")
			if err != nil {
				return 0, fmt.Errorf("look at the dispatcher's consumer of %s%d: %w", name, n, err)
			}
			sum += c.CachedInfo().NumAckPending
		}
	}
	return sum, nil
}

// repeatable is how many deliveries of some shards a death of their dispatchers can make be POSTed again: those in messages that
// were given out and not acknowledged, unless the journal says what became of them. Nobody may work on the shards meanwhile, so
// it looks at all of them at once.
func (s *streams) repeatable(ctx context.Context, of []int) (int, error) {
	log, err := journal.Ensure(ctx, s.client, journal.Default())
	if err != nil {
		return 0, err
	}
	found, errs := make([]int, len(of)), make([]error, len(of))
	var looks sync.WaitGroup
	for i, n := range of {
		looks.Go(func() { found[i], errs[i] = s.repeatableOf(ctx, n, log) })
	}
	looks.Wait()
	sum := 0
	for _, n := range found {
		sum += n
	}
	return sum, errors.Join(errs...)
}

// errBeyond ends a walk where messages begin that nobody was given.
var errBeyond = errors.New("nobody was given what follows")

func (s *streams) repeatableOf(ctx context.Context, shard int, log *journal.Journal) (int, error) {
	due, err1 := s.js.Consumer(ctx, "RETRIES_"+strconv.Itoa(shard), "dispatcher")
	first, err2 := s.js.Consumer(ctx, "DELIVERIES_"+strconv.Itoa(shard), "dispatcher")
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("look at the dispatcher's consumers of shard %d: %w", shard, err)
	}
	unknown := map[string]bool{}
	err := deliverystream.Walk(ctx, s.client, shard, func(sequence uint64, d *recordv1.Delivery) error {
		if sequence > first.CachedInfo().Delivered.Stream {
			return errBeyond
		}
		unknown[d.GetId()] = true
		return nil
	})
	if err != nil && !errors.Is(err, errBeyond) {
		return 0, err
	}
	err = log.Tail(ctx, shard, time.Minute, func(e *recordv1.JournalEntry) error {
		delete(unknown, e.GetDeliveryId())
		return nil
	})
	return due.CachedInfo().NumAckPending + len(unknown), err
}

// unrouted is how many events were given to a router and not acknowledged.
func (s *streams) unrouted(ctx context.Context) (int, error) {
	c, err := s.js.Consumer(ctx, "EVENTS", "router")
	if err != nil {
		return 0, fmt.Errorf("look at the router's consumer: %w", err)
	}
	return c.CachedInfo().NumAckPending, nil
}

// unrecorded is how many messages of the journal an api replica has not entered in its log.
func (s *streams) unrecorded(ctx context.Context, instance string) (int, error) {
	name, err := s.recorder(ctx, instance)
	if err != nil {
		return 0, err
	}
	c, err := s.js.Consumer(ctx, "JOURNAL", name)
	if err != nil {
		return 0, fmt.Errorf("look at the recorder's consumer: %w", err)
	}
	return int(c.CachedInfo().NumPending) + c.CachedInfo().NumAckPending, nil
}

// recorder is the name of the consumer that fills an api replica's log. It ends in the log's token.
func (s *streams) recorder(ctx context.Context, instance string) (string, error) {
	journal, err := s.js.Stream(ctx, "JOURNAL")
	if err != nil {
		return "", fmt.Errorf("look at JOURNAL: %w", err)
	}
	names := journal.ConsumerNames(ctx)
	found := ""
	for name := range names.Name() {
		if strings.HasPrefix(name, "recorder-"+instance+"_") {
			found = name
		}
	}
	if err := names.Err(); err != nil {
		return "", fmt.Errorf("list the consumers of JOURNAL: %w", err)
	}
	if found == "" {
		return "", fmt.Errorf("nobody records for %s", instance)
	}
	return found, nil
}

// waiting is how many records of retries there are, with those that are due.
func (s *streams) waiting(ctx context.Context) (int, error) {
	sum := 0
	for n := range s.shards {
		held, err := s.messages(ctx, "RETRIES_"+strconv.Itoa(n))
		if err != nil {
			return 0, err
		}
		sum += int(held)
	}
	return sum, nil
}

// messages is how many a stream holds, without the anchor of a stream of retries.
func (s *streams) messages(ctx context.Context, name string) (uint64, error) {
	st, err := s.js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", name, err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter("anchors.*"))
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", name, err)
	}
	return info.State.Msgs - uint64(len(info.State.Subjects)), nil
}

// unfinished is how much is left to do: events that are not routed, deliveries that are not
// settled, records that wait. At zero nothing can be attempted any more.
func (s *streams) unfinished(ctx context.Context) (uint64, error) {
	c, err := s.js.Consumer(ctx, "EVENTS", "router")
	if err != nil {
		return 0, fmt.Errorf("look at the router's consumer: %w", err)
	}
	sum := c.CachedInfo().NumPending + uint64(c.CachedInfo().NumAckPending)
	for n := range s.shards {
		for _, name := range []string{"DELIVERIES_", "RETRIES_"} {
			held, err := s.messages(ctx, name+strconv.Itoa(n))
			if err != nil {
				return 0, err
			}
			sum += held
		}
	}
	return sum, nil
}

// connectRedis is a client of the deployment's Redis.
func connectRedis(t *testing.T, c *cluster.Cluster) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(c.RedisURL)
	require.NoError(t, err)
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

var commandLine = regexp.MustCompile(`(?m)^cmdstat_([a-z|]+):calls=(\d+),`)

// calls is how often each command was called, those of scripts included: INFO commandstats.
func calls(t *testing.T, client *redis.Client) map[string]int {
	t.Helper()
	info, err := client.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	out := map[string]int{}
	for _, line := range commandLine.FindAllStringSubmatch(info, -1) {
		n, err := strconv.Atoi(line[2])
		require.NoError(t, err)
		out[line[1]] = n
	}
	require.NotEmpty(t, out)
	return out
}
