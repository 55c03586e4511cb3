package stream

import (
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// mailbox is a subscription's messages for one goroutine to take. It drops none: a reader that is
// slow for a while would else lose the answers that it waits for. What it holds is bounded by what
// was asked for.
type mailbox struct {
	filled chan struct{} // something came after the last take

	mu    sync.Mutex
	msgs  []*nats.Msg
	spare []*nats.Msg
}

func newMailbox() *mailbox { return &mailbox{filled: make(chan struct{}, 1)} }

func (b *mailbox) subscribe(nc *nats.Conn, subject string) (*nats.Subscription, error) {
	sub, err := nc.Subscribe(subject, b.put)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		_ = sub.Unsubscribe()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return sub, nil
}

func (b *mailbox) put(m *nats.Msg) {
	b.mu.Lock()
	b.msgs = append(b.msgs, m)
	first := len(b.msgs) == 1
	b.mu.Unlock()
	if first {
		signal(b.filled)
	}
}

// take returns what came since the last take, whose result it uses again.
func (b *mailbox) take() []*nats.Msg {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.msgs
	clear(b.spare)
	b.msgs, b.spare = b.spare[:0], taken
	return taken
}

// empty reports whether there is nothing to take.
func (b *mailbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.msgs) == 0
}
