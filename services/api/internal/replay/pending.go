package replay

import (
	"context"
	"errors"
	"sync"
)

// pending is what stores have been given and have not answered for.
type pending struct {
	mu    sync.Mutex
	left  int
	err   error
	empty chan struct{} // closed when nothing is left and wait is called
}

func newPending() *pending { return &pending{} }

func (p *pending) add() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left++
}

// done takes an answer. Of many errors the first is kept.
func (p *pending) done(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.err == nil {
		p.err = err
	}
	if p.left--; p.left == 0 && p.empty != nil {
		close(p.empty)
		p.empty = nil
	}
}

// wait waits until everything is answered for, or ctx ends, and returns the first error.
func (p *pending) wait(ctx context.Context) error {
	p.mu.Lock()
	if p.left == 0 {
		defer p.mu.Unlock()
		return p.err
	}
	empty := make(chan struct{})
	p.empty = empty
	p.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
		return errors.Join(ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
