package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/cluster"
)

// perAccount is how many webhooks an account has, of sixteen event types that are published and others.
const perAccount = 1000

// manyWebhooks is a system with so many webhooks: the memory of each process, how long each takes to
// start with them, and what matching costs. Real is one account, made over the API, whose events are
// matched with its thousand webhooks; the others are written into the configuration's bucket as the api
// writes them, since each change over the API waits until all routers and dispatchers have it.
func (b *bench) manyWebhooks(ctx context.Context, name string, n int) (rows []Row, err error) {
	err = b.system(ctx, name, func(s *system) error {
		before, err := s.resident(ctx)
		if err != nil {
			return err
		}
		p, err := s.tenant(ctx, b.receiver.url, 16, 1)
		if err != nil {
			return err
		}
		defer p.close() //nolint:errcheck // nothing is under way any more
		began := time.Now()
		if err := s.clone(ctx, p, n); err != nil {
			return err
		}
		rows = append(rows, figure("", "webhooks written", unitRate, float64(n)/time.Since(began).Seconds()))
		made, err := s.settled(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, made.memoryRows(before, "a webhook, once written", n)...)
		started, err := s.restartEach(ctx, b)
		rows = append(rows, started...)
		if err != nil {
			return err
		}
		again, err := s.settled(ctx)
		if err != nil {
			return err
		}
		for _, r := range again.memoryRows(before, "a webhook, once started with them", n) {
			r.Name += ", started again"
			rows = append(rows, r)
		}
		found, err := b.cost(ctx, s, p, batchLoad, 1)
		rows = append(rows, found...)
		return err
	})
	return rows, err
}

// settled is resident, however long it takes to take the configuration in.
func (s *system) settled(ctx context.Context) (resident, error) {
	began := time.Now()
	for {
		r, err := s.resident(ctx)
		if err == nil || ctx.Err() != nil || time.Since(began) > startLimit {
			return r, err
		}
	}
}

// clone writes copies of the producer's first webhook until there are n, under ids, names and event types
// of their own: the first into its account, the others into accounts that have nothing else.
func (s *system) clone(ctx context.Context, p *producer, n int) error {
	nc, err := nats.Connect(s.nats)
	if err != nil {
		return fmt.Errorf("write webhooks: %w", err)
	}
	defer nc.Close()
	cfg := stream.Default()
	cfg.DuplicateWindow = duplicateWindow
	client, err := stream.New(nc, cfg)
	if err != nil {
		return fmt.Errorf("write webhooks: %w", err)
	}
	defer client.Close()
	store, err := config.Ensure(ctx, client)
	if err != nil {
		return fmt.Errorf("write webhooks: %w", err)
	}
	first, _, err := store.GetWebhook(ctx, p.account, p.webhooks[0])
	if err != nil {
		return fmt.Errorf("write webhooks: %w", err)
	}
	accounts := make([]string, (n+perAccount-1)/perAccount)
	for i := range accounts {
		accounts[i] = string(postrider.NewAccountID())
	}
	accounts[0] = p.account
	var next atomic.Int64
	next.Store(int64(len(p.webhooks)))
	var failed firstError
	var writers sync.WaitGroup
	for range 64 {
		writers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.get() == nil; i = int(next.Add(1)) - 1 {
				if _, err := store.CreateWebhook(ctx, copyOf(first, accounts[i/perAccount], i)); err != nil {
					failed.set(err)
				}
			}
		})
	}
	writers.Wait()
	return failed.get()
}

// copyOf is a webhook like the given one. Its secret, of the same size, is never opened, because nothing
// is published that it wants.
func copyOf(first *recordv1.Webhook, account string, i int) *recordv1.Webhook {
	c, _ := proto.Clone(first).(*recordv1.Webhook)
	w := c.GetWebhook()
	w.Id, w.AccountId, w.Number = string(postrider.NewWebhookID()), account, int64(1_000_000+i)
	w.Url = fmt.Sprintf("https://receiver-%d.example.com/hooks/%d", i%perAccount, i)
	w.EventTypes = []string{fmt.Sprintf("other.type%03d", i%perAccount)}
	return c
}

// restartEach stops and starts one process after the other, and measures until each is ready.
func (s *system) restartEach(ctx context.Context, b *bench) (rows []Row, err error) {
	for _, service := range append([]string{"nats"}, cluster.Services...) {
		p := s.cluster.Of(service)[0]
		if err := p.Stop(stopLimit); err != nil {
			return rows, err
		}
		began := time.Now()
		if err := p.Start(); err != nil {
			return rows, err
		}
		if err := awaitReady(ctx, p); err != nil {
			return rows, err
		}
		took := time.Since(began)
		s.procs[service] = p.PID()
		used, err := cpuOf(p.PID())
		if err != nil {
			return rows, err
		}
		rows = append(rows,
			figure("", "start of "+service, unitSecond, took.Seconds()),
			figure("", "start of "+service+", CPU", unitSecond, used.Seconds()))
		b.say("%-20s started in %.2f s, with %.2f s of CPU", service, took.Seconds(), used.Seconds())
		if service == "nats" {
			// The others have to be connected again before one of them is started anew.
			if _, err := s.settled(ctx); err != nil {
				return rows, err
			}
		}
	}
	return rows, nil
}

func awaitReady(ctx context.Context, p *cluster.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := p.Ready(ctx)
		if err == nil && p.Running() {
			return nil
		}
		if !p.Running() {
			return errors.New(p.Name + " ended before it was ready: " + p.Tail(5))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.Name, err)
		case <-ticker.C:
		}
	}
}
