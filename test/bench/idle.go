package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const groupIdle = "idle"

// What is idle.
const (
	idleAccounts = 100
	idleWebhooks = 10_000
)

// idle measures the memory of all processes and stores that have ten thousand webhooks and nothing to
// do: as they are after the webhooks were created over the API, and as they are after all but Redis were
// started again.
func (b *bench) idle(ctx context.Context) (rows []Row, err error) {
	err = b.system(ctx, groupIdle, func(s *system) error {
		if err := s.populate(ctx, b.receiver.url, idleAccounts, idleWebhooks/idleAccounts); err != nil {
			return err
		}
		made, err := s.resident(ctx)
		if err != nil {
			return err
		}
		if err := s.restart(ctx); err != nil {
			return err
		}
		started, err := s.resident(ctx)
		if err != nil {
			return err
		}
		name := count(idleWebhooks) + " webhooks, idle: memory of all"
		rows = []Row{
			made.row(name + ", once created"),
			started.row(name + ", once started with them"),
		}
		return nil
	})
	return rows, err
}

// populate makes accounts with so many webhooks each.
func (s *system) populate(ctx context.Context, url string, accounts, webhooks int) error {
	const makers = 16
	slots := make(chan struct{}, makers)
	var first firstError
	var making sync.WaitGroup
	for range accounts {
		slots <- struct{}{}
		making.Go(func() {
			defer func() { <-slots }()
			p, err := s.tenant(ctx, url, webhooks, 1)
			if err != nil {
				first.set(err)
				return
			}
			first.set(p.close())
		})
	}
	making.Wait()
	return first.get()
}

// restart stops services and NATS, and starts them again.
func (s *system) restart(ctx context.Context) error {
	c := s.cluster
	var services []string
	for _, p := range c.Processes() {
		if p.Service != "redis" && p.Service != "nats" && !slices.Contains(services, p.Service) {
			services = append(services, p.Service)
		}
	}
	order := append(slices.Clone(services), "nats")
	for _, service := range order {
		for _, p := range c.Of(service) {
			if err := p.Stop(stopLimit); err != nil {
				return err
			}
		}
	}
	slices.Reverse(order)
	for _, service := range order {
		for _, p := range c.Of(service) {
			if err := p.Start(); err != nil {
				return err
			}
			if service == "nats" {
				if err := p.WaitReady(ctx); err != nil {
					return err
				}
			}
		}
	}
	for _, p := range c.Processes() {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
		name := p.Name
		if len(c.Of(p.Service)) == 1 {
			name = p.Service
		}
		s.procs[name] = p.PID()
	}
	return nil
}

// resident is the memory of processes by name, in bytes.
type resident map[string]int64

// idleFor is for how long nothing is done before memory is read.
const idleFor = 20 * time.Second

// resident waits until nothing has been done for idleFor.
func (s *system) resident(ctx context.Context) (resident, error) {
	if _, err := s.procs.awaitQuiet(ctx); err != nil {
		return nil, err
	}
	timer := time.NewTimer(idleFor)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	return s.procs.memory()
}

func (r resident) total() (sum int64) {
	for n := range maps.Values(r) {
		sum += n
	}
	return sum
}

func (r resident) row(name string) Row {
	var parts []string
	for _, process := range sortedNames(r) {
		parts = append(parts, fmt.Sprintf("%s %s", process, number(mebibytes(r[process]))))
	}
	parts = append(parts, fmt.Sprintf("after %s of nothing to do", idleFor))
	return figure(groupIdle, name, unitMiB, mebibytes(r.total())).atMost(400).noting("%s", strings.Join(parts, ", "))
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
