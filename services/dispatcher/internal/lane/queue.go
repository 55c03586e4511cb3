package lane

// queue is a FIFO. Its length is bounded by what its owner may hold unsettled.
type queue[J any] struct {
	items []J
	head  int
}

func (q *queue[J]) len() int { return len(q.items) - q.head }

func (q *queue[J]) push(j J) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, j)
}

func (q *queue[J]) pop() J {
	var zero J
	j := q.items[q.head]
	q.items[q.head] = zero
	if q.head++; q.head == len(q.items) {
		q.reset()
	}
	return j
}

// cut removes and returns all but the first keep.
func (q *queue[J]) cut(keep int) []J {
	if keep >= q.len() {
		return nil
	}
	tail := q.items[q.head+keep:]
	out := append([]J(nil), tail...)
	clear(tail)
	q.items = q.items[:q.head+keep]
	if q.len() == 0 {
		q.reset()
	}
	return out
}

// drain removes and returns what the function names, and keeps the order of the rest.
func (q *queue[J]) drain(take func(J) bool) []J {
	var out []J
	kept := q.items[:0]
	for _, j := range q.items[q.head:] {
		if take(j) {
			out = append(out, j)
		} else {
			kept = append(kept, j)
		}
	}
	clear(q.items[len(kept):])
	q.items, q.head = kept, 0
	return out
}

// reset frees a large buffer once it is empty: a lane that was busy once should not keep it.
func (q *queue[J]) reset() {
	q.head = 0
	if q.items = q.items[:0]; cap(q.items) > 256 {
		q.items = nil
	}
}
