package stream

import (
	"context"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A page may be asked for without headers. The server then hands each message on as it is stored; to put its own
// six headers beside those that a message has, it copies them six times, which costs more than all the rest and fills
// its memory with garbage (nats-server 2.15: of 33 us of a processor for a message, reader included, 12 remain).
//
// At the end of such a page the server says the last sequence, and before the scan it says which sequences were gone
// by then. What is gone stays so, and a scan goes no further than what stood when it began. So if a page has as many
// messages as had not gone within its sequences, then it has just these, and each message's sequence follows from its
// place. If it has fewer, something went since or was lost on the way: it is read again with headers, and so are
// the next ones until there is one with as many as there should be.

// maxGone is of how many gone sequences the server is asked for a list: 16 MiB of its memory.
const maxGone = 2 << 20

// learnGone asks which sequences are gone, of the stream's leader. Without the list each page with a gap is read with
// headers.
func (r *scanner) learnGone(ctx context.Context, s jetstream.Stream) error {
	state := s.CachedInfo().State
	if state.NumDeleted == 0 || state.NumDeleted > maxGone {
		return nil
	}
	info, err := s.Info(ctx, jetstream.WithDeletedDetails(true))
	if err != nil {
		return err
	}
	r.gone = info.State.Deleted
	slices.Sort(r.gone)
	return nil
}

// stood is how many of the sequences from first to last were not gone, and where the list has the first that was.
func (r *scanner) stood(first, last uint64) (n uint64, at int) {
	at, _ = slices.BinarySearch(r.gone, first)
	end, _ := slices.BinarySearch(r.gone, last+1)
	return last - first + 1 - uint64(end-at), at //nolint:gosec // not negative
}

// bodies gives the messages of a page that came without headers to fn. It reports whether the page is done with and
// the part goes on.
func (r *scanner) bodies(i int, end *nats.Msg) (done bool, err error) {
	p := &r.parts[i]
	said := end.Header.Get(jetstream.LastSequenceHeader)
	last, err := strconv.ParseUint(said, 10, 64)
	if err != nil || last < p.next {
		p.headers = true
		return false, r.ask(i)
	}
	n, gone := r.stood(p.next, last)
	if n != uint64(len(p.bodies)) {
		p.headers = true
		return false, r.ask(i)
	}
	for _, m := range p.bodies {
		for gone < len(r.gone) && r.gone[gone] == p.next {
			p.next, gone = p.next+1, gone+1
		}
		if p.next > p.end {
			break
		}
		stored := &Stored{Sequence: p.next, Data: m.Data}
		p.next++
		if err := r.fn(stored); err != nil {
			return false, err
		}
	}
	clear(p.bodies)
	if p.next > p.end {
		r.finish(p)
		return false, nil
	}
	p.last = said
	return true, nil
}
