package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What parts publish. A batch is for one account, so that with many accounts that have a few webhooks each
// it is small: a webhook takes 64 at a time.
var (
	batchLoad = Load{Method: batched, Producers: 16, Size: 50}
	crowdLoad = Load{Method: batched, Producers: 64, Size: 10}
)

// different is b with other options for the systems that it starts.
func (b *bench) different(change func(*Options)) *bench {
	other := *b
	change(&other.opts)
	return &other
}

// cost publishes and gives the rows of what that took.
func (b *bench) cost(ctx context.Context, s *system, p *producer, l Load, fanOut int) ([]Row, error) {
	s.procs[loadName], s.procs[receiverName] = os.Getpid(), b.receiver.pid
	c := Configuration{Name: confBatch, Form: separate, Load: l, FanOut: fanOut}
	if _, err := b.once(ctx, s, p, c, min(b.opts.Load, 2*time.Second)); err != nil {
		return nil, err
	}
	sample, err := b.once(ctx, s, p, c, b.opts.Load)
	if err != nil {
		return nil, err
	}
	rows := []Row{figure("", "delivered", unitRate, sample.Delivered)}
	byService := map[string]time.Duration{}
	for name, d := range sample.CPU {
		service, _, _ := strings.Cut(name, "-")
		byService[service] += d
	}
	for _, name := range sortedNames(byService) {
		if name != loadName {
			rows = append(rows, figure("", "CPU for 1000 deliveries, "+name, unitSecond, 1000*byService[name].Seconds()))
		}
	}
	all := sample.CPUTotal - sample.CPU[loadName] - sample.CPU[receiverName]
	rows = append(rows, figure("", "CPU for 1000 deliveries, services and stores", unitSecond, 1000*all.Seconds()))
	if sample.Parked > 0 {
		rows = append(rows, figure("", "parked, of 1000 deliveries", "", 1000*float64(sample.Parked)/float64(sample.Deliveries)))
	}
	return rows, nil
}

// costs are those of an event with one delivery and with ten, in CPU time and in what streams store.
func (b *bench) costs(ctx context.Context) (rows []Row, err error) {
	for _, fanOut := range []int{1, 10} {
		prefix := fmt.Sprintf("%d per event: ", fanOut)
		err = errors.Join(err, b.system(ctx, fmt.Sprintf("costs-%d", fanOut), func(s *system) error {
			p, err := s.tenant(ctx, b.receiver.url, 16/fanOut+3, fanOut)
			if err != nil {
				return err
			}
			defer p.close() //nolint:errcheck // nothing is under way any more
			before, err := s.redisMemory(ctx)
			if err != nil {
				return err
			}
			found, err := b.cost(ctx, s, p, batchLoad, fanOut)
			if err != nil {
				return err
			}
			after, err := s.redisMemory(ctx)
			if err != nil {
				return err
			}
			stored, err := s.stored(ctx, after-before)
			for _, r := range append(found, stored...) {
				r.Name = prefix + r.Name
				rows = append(rows, r)
			}
			return err
		}))
	}
	return rows, err
}

// stored is what the streams were given for each event and each delivery, by all loads of the system, and
// how much Redis keeps for each event; the messages of work queues are gone again.
func (s *system) stored(ctx context.Context, keys int64) ([]Row, error) {
	nc, err := nats.Connect(s.nats)
	if err != nil {
		return nil, fmt.Errorf("look at the streams: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	events, entries, entryBytes, eventBytes, deliveries := 0.0, 0.0, 0.0, 0.0, 0.0
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		state := &info.State
		switch name := info.Config.Name; {
		case name == "EVENTS" || strings.HasPrefix(name, "EVENTS_"):
			events, eventBytes = events+float64(state.LastSeq), eventBytes+float64(state.Bytes)
		case strings.HasPrefix(name, "DELIVERIES_"):
			deliveries += float64(state.LastSeq)
		case name == "JOURNAL":
			entries, entryBytes = float64(state.LastSeq), float64(state.Bytes)
		}
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("look at the streams: %w", err)
	}
	if events == 0 || deliveries == 0 {
		return nil, errors.New("the streams were given nothing")
	}
	return []Row{
		figure("", "EVENTS for one event", unitBytes, eventBytes/events).noting("as stored, 1 KiB of it data"),
		figure("", "messages of JOURNAL for 1000 deliveries", "", 1000*entries/deliveries),
		figure("", "JOURNAL for one delivery", unitBytes, entryBytes/deliveries).noting("as stored, a share of its event's entry included"),
		figure("", "memory of Redis for one event", unitBytes, float64(keys)/events).noting("its deduplication key, for as long as the window"),
		figure("", "events counted", "", events),
	}, nil
}

// manyNodes is the load on so many NATS servers, with as many replicas of every stream.
func (b *bench) manyNodes(ctx context.Context, name string, n int) ([]Row, error) {
	return b.different(func(o *Options) { o.nodes = n }).plainLoad(ctx, name)
}

// manyDispatchers is the load on so many dispatchers that share eight shards.
func (b *bench) manyDispatchers(ctx context.Context, name string, n int) ([]Row, error) {
	return b.different(func(o *Options) {
		o.Shards = 8
		o.replicas = func(service string) int {
			if service == "dispatcher" {
				return n
			}
			return 1
		}
	}).plainLoad(ctx, name)
}

// manyShards is the load on one dispatcher with so many shards.
func (b *bench) manyShards(ctx context.Context, name string, n int) ([]Row, error) {
	return b.different(func(o *Options) { o.Shards = n }).plainLoad(ctx, name)
}

// plainLoad is the load of one account with many webhooks, so that every shard has some.
func (b *bench) plainLoad(ctx context.Context, name string) (rows []Row, err error) {
	err = b.system(ctx, name, func(s *system) error {
		const webhooks = 64
		p, err := s.tenant(ctx, b.receiver.url, webhooks, 1)
		if err != nil {
			return err
		}
		defer p.close() //nolint:errcheck // nothing is under way any more
		rows, err = b.cost(ctx, s, p, batchLoad, 1)
		return err
	})
	return rows, err
}

// manySegments is the load of sixteen accounts on so many segments of EVENTS.
func (b *bench) manySegments(ctx context.Context, name string, n int) ([]Row, error) {
	const accounts = 16 // four webhooks each
	return b.different(func(o *Options) { o.segments = n }).crowd(ctx, name, accounts)
}

// manyAccounts is the load of so many accounts, and the memory that they take. They have 64 webhooks in
// all, or one each if they are more.
func (b *bench) manyAccounts(ctx context.Context, name string, n int) ([]Row, error) {
	return b.crowd(ctx, name, n)
}

func (b *bench) crowd(ctx context.Context, name string, accounts int) (rows []Row, err error) {
	err = b.system(ctx, name, func(s *system) error {
		before, err := s.resident(ctx)
		if err != nil {
			return err
		}
		p, err := s.crowd(ctx, b.receiver.url, accounts)
		if err != nil {
			return err
		}
		defer p.close() //nolint:errcheck // nothing is under way any more
		made, err := s.resident(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, made.memoryRows(before, "an account with its key and webhooks", accounts)...)
		found, err := b.cost(ctx, s, p, crowdLoad, 1)
		rows = append(rows, found...)
		return err
	})
	return rows, err
}

// memoryRows are the memory of each process, and what one of n things added.
func (r resident) memoryRows(before resident, thing string, n int) (rows []Row) {
	for _, name := range sortedNames(r) {
		if name == loadName || name == receiverName {
			continue
		}
		rows = append(rows, figure("", "memory, "+name, unitMiB, mebibytes(r[name])).
			noting("%s for %s", bytesEach(r[name]-before[name], n), thing))
	}
	return append(rows, figure("", "memory, all", unitMiB, mebibytes(r.total())).
		noting("%s for %s", bytesEach(r.total()-before.total(), n), thing))
}

func bytesEach(n int64, things int) string { return fmt.Sprintf("%d B", n/int64(max(things, 1))) }

// crowd makes accounts, and a producer that publishes for them in turn.
func (s *system) crowd(ctx context.Context, url string, accounts int) (*producer, error) {
	const makers, webhooks = 16, 64
	each := max(1, webhooks/accounts)
	slots := make(chan struct{}, makers)
	keys := make([]string, accounts)
	var first firstError
	var making sync.WaitGroup
	for i := range keys {
		slots <- struct{}{}
		making.Go(func() {
			defer func() { <-slots }()
			if first.get() != nil {
				return
			}
			p, err := s.tenant(ctx, url, each, 1)
			if err != nil {
				first.set(err)
				return
			}
			keys[i] = p.key
			first.set(p.close())
		})
	}
	making.Wait()
	if err := first.get(); err != nil {
		return nil, err
	}
	types := make([]string, each)
	for i := range types {
		types[i] = groupType(i)
	}
	p, err := newProducer(s.ingest, keys[0], types)
	if err != nil {
		return nil, err
	}
	p.keys = keys
	return p, nil
}
