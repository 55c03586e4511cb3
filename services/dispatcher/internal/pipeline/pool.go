package pipeline

import (
	"sync"
	"sync/atomic"

	"github.com/postrider/postrider/services/dispatcher/internal/fifo"
)

// pool is a bounded set of workers. They are made when they are first needed and stay: no
// goroutine is made for a delivery.
type pool struct {
	queue *fifo.Queue[*job]
	run   func(*job)
	slots int64
	wg    sync.WaitGroup
	taken atomic.Int64 // jobs that were pushed and are not done

	workers atomic.Int64
	mu      sync.Mutex // orders the making of workers and their end
	closed  bool
}

func newPool(slots int, run func(*job)) *pool {
	return &pool{queue: fifo.New[*job](), run: run, slots: int64(slots)}
}

// push gives a job to a worker, now or when one is free.
func (p *pool) push(j *job) {
	if p.taken.Add(1) > p.workers.Load() {
		p.grow()
	}
	p.queue.Push(j)
}

func (p *pool) grow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers.Load() == p.slots || p.closed {
		return
	}
	p.workers.Add(1)
	p.wg.Go(func() {
		for j, ok := p.queue.Pop(); ok; j, ok = p.queue.Pop() {
			p.run(j)
			p.taken.Add(-1)
		}
	})
}

func (p *pool) load() int64 { return p.taken.Load() }

func (p *pool) pressure() float64 { return float64(p.taken.Load()) / float64(p.slots) }

// close ends the workers when the queue is empty, and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.queue.Close()
	p.wg.Wait()
}
