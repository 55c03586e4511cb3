package stream

import "time"

// ring is a queue of messages that grows when it must.
type ring struct {
	buf  []*Msg // its length is a power of two
	head int
	size int
}

func newRing(capacity int) ring {
	n := 16
	for n < capacity {
		n *= 2
	}
	return ring{buf: make([]*Msg, n)}
}

func (r *ring) len() int { return r.size }

func (r *ring) push(m *Msg) {
	if r.size == len(r.buf) {
		grown := make([]*Msg, 2*len(r.buf))
		for i := range r.size {
			grown[i] = r.buf[(r.head+i)&(len(r.buf)-1)]
		}
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.size)&(len(r.buf)-1)] = m
	r.size++
}

// pop returns nil when the ring is empty.
func (r *ring) pop() *Msg {
	if r.size == 0 {
		return nil
	}
	m := r.buf[r.head]
	r.buf[r.head] = nil
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.size--
	return m
}

// older lists the messages that were touched before a time.
func (r *ring) older(than time.Time) []*Msg {
	var old []*Msg
	for i := range r.size {
		if m := r.buf[(r.head+i)&(len(r.buf)-1)]; m.touched.Before(than) {
			old = append(old, m)
		}
	}
	return old
}
