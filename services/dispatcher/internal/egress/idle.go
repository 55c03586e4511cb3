package egress

import (
	"sync"
	"time"
)

// idle keeps the connections that serve nothing just now, the last used of each host on top. All are in one list
// besides, the longest idle first, so that those whose time is up and those that are too many are found at once.
type idle struct {
	timeout    time.Duration
	most, each int // in all, and of a host

	mu     sync.Mutex
	hosts  map[string][]*conn
	first  *conn
	last   *conn
	count  int
	timer  *time.Timer // runs while there are any
	closed bool
}

func newIdle(timeout time.Duration, most, each int) *idle {
	return &idle{timeout: timeout, most: most, each: each, hosts: map[string][]*conn{}}
}

// get takes the host's last used connection; nil if there is none.
func (p *idle) get(key string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.hosts[key]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	p.remove(c, len(list)-1)
	return c
}

// put keeps a connection, or closes it or the longest idle one if there are too many.
func (p *idle) put(c *conn) {
	if surplus := p.keep(c); surplus != nil {
		_ = surplus.Close() // Unused.
	}
}

func (p *idle) keep(c *conn) (surplus *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.hosts[c.key]) >= p.each {
		return c
	}
	c.since = time.Now()
	p.hosts[c.key] = append(p.hosts[c.key], c)
	c.prev = p.last
	if p.last != nil {
		p.last.next = c
	} else {
		p.first = c
	}
	p.last = c
	p.count++
	switch {
	case p.timer == nil:
		p.timer = time.AfterFunc(p.timeout, p.sweep)
	case p.count == 1:
		p.timer.Reset(p.timeout)
	}
	if p.count > p.most {
		surplus = p.first
		p.remove(surplus, 0)
	}
	return surplus
}

// remove takes a connection out, which is the i-th of its host.
func (p *idle) remove(c *conn, i int) {
	list := p.hosts[c.key]
	copy(list[i:], list[i+1:])
	list[len(list)-1] = nil
	if list = list[:len(list)-1]; len(list) == 0 {
		delete(p.hosts, c.key)
	} else {
		p.hosts[c.key] = list
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		p.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		p.last = c.prev
	}
	c.prev, c.next = nil, nil
	p.count--
}

// sweep closes what has been idle for too long.
func (p *idle) sweep() {
	for _, c := range p.expired(time.Now()) {
		_ = c.Close() // Unused.
	}
}

func (p *idle) expired(now time.Time) (list []*conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.first != nil && now.Sub(p.first.since) >= p.timeout {
		list = append(list, p.first)
		p.remove(p.first, 0) // the longest idle of all is the longest idle of its host
	}
	if p.first != nil {
		p.timer.Reset(p.timeout - now.Sub(p.first.since))
	}
	return list
}

// close closes all, and what is put later.
func (p *idle) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	list := p.hosts
	p.hosts, p.first, p.last, p.count = map[string][]*conn{}, nil, nil, 0
	p.mu.Unlock()
	for _, conns := range list {
		for _, c := range conns {
			_ = c.Close() // Unused.
		}
	}
}
