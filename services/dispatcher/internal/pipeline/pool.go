package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/services/dispatcher/internal/fifo"
)

// pool is a bounded set of workers. They are made when they are first needed and stay: no
// goroutine is made for a delivery. While all are busy, accounts take turns: however much one has
// ready, what another has comes next.
type pool struct {
	queue  *fifo.Turns[string, *job]
	run    func(*job)
	waited func(time.Duration) // told how long each job waited for a worker; may be nil
	slots  int64
	wg     sync.WaitGroup
	taken  atomic.Int64 // jobs that were pushed and are not done

	workers atomic.Int64
	mu      sync.Mutex // orders the making of workers and their end
	closed  bool

	shares   sync.Mutex
	accounts map[string]int64 // of taken, those of each account that has any
}

func newPool(slots int, run func(*job), waited func(time.Duration)) *pool {
	return &pool{queue: fifo.NewTurns[string, *job](), run: run, waited: waited, slots: int64(slots), accounts: map[string]int64{}}
}

// push gives a job to a worker, now or when one is free.
func (p *pool) push(j *job) {
	account := j.delivery.GetAccountId()
	p.count(account, 1)
	if p.taken.Add(1) > p.workers.Load() {
		p.grow()
	}
	j.ready = time.Now()
	p.queue.Push(account, j)
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
			if p.waited != nil {
				p.waited(time.Since(j.ready))
			}
			account := j.delivery.GetAccountId() // The job may be somebody else's once it has run.
			p.run(j)
			p.taken.Add(-1)
			p.count(account, -1)
		}
	})
}

func (p *pool) load() int64 { return p.taken.Load() }

// count adds to what is taken by an account.
func (p *pool) count(account string, n int64) {
	p.shares.Lock()
	defer p.shares.Unlock()
	if p.accounts[account] += n; p.accounts[account] == 0 {
		delete(p.accounts, account)
	}
}

// calm is a pressure under which nobody gives way.
const calm = 0.5

// pressure is how much of the slots is taken, as far as the account is concerned: one that has less than half
// of an equal part of them is not pressed by what others have taken. Those halves together leave the other
// half of the slots, so that receivers that hang cannot hold all of them.
func (p *pool) pressure(account string) float64 {
	taken := float64(p.taken.Load()) / float64(p.slots)
	if taken <= calm {
		return taken
	}
	p.shares.Lock()
	defer p.shares.Unlock()
	own, accounts := p.accounts[account], int64(len(p.accounts))
	if own == 0 {
		accounts++
	}
	if 2*(own+1)*accounts <= p.slots {
		return calm
	}
	return taken
}

// close ends the workers when the queue is empty, and waits for them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.queue.Close()
	p.wg.Wait()
}
