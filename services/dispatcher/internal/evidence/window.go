package evidence

// span is how many sequences a window covers: more than a shard settles while a message waits to
// be given again.
const span = 1 << 21

// window is a set of sequences that only remembers the newest span of them: a bit each.
type window struct {
	bits []uint64 // allocated with the first sequence
	end  uint64   // the window covers [end-span, end)
}

func (w *window) add(sequence uint64) {
	if w.bits == nil {
		w.bits = make([]uint64, span/64)
		w.end = sequence
	}
	if sequence >= w.end {
		w.advance(sequence + 1)
	}
	if w.end-sequence <= span {
		w.bits[sequence%span/64] |= 1 << (sequence % 64)
	}
}

func (w *window) has(sequence uint64) bool {
	if w.bits == nil || sequence >= w.end || w.end-sequence > span {
		return false
	}
	return w.bits[sequence%span/64]&(1<<(sequence%64)) != 0
}

// advance forgets what the new sequences take the place of.
func (w *window) advance(end uint64) {
	if end-w.end >= span {
		clear(w.bits)
		w.end = end
		return
	}
	for s := w.end; s < end; {
		if s%64 == 0 && end-s >= 64 {
			w.bits[s%span/64] = 0
			s += 64
			continue
		}
		w.bits[s%span/64] &^= 1 << (s % 64)
		s++
	}
	w.end = end
}
