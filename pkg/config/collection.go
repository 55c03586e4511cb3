package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

// listReads is how many records a list reads at once.
const listReads = 16

// collection reads and writes the records of one bucket.
type collection[T proto.Message] struct {
	bucket *bucket.Bucket
	empty  func() T
}

// create writes a record that must not be there. A key that was deleted may be taken again, at the
// revision of the marker, so that of two who create it one gets ErrExists.
func (c collection[T]) create(ctx context.Context, key string, rec T) (uint64, error) {
	for {
		e, err := c.bucket.Get(ctx, key)
		switch {
		case err == nil:
			return 0, ErrExists
		case !errors.Is(err, bucket.ErrNotFound):
			return 0, err
		}
		rev, err := c.put(ctx, key, rec, e.Revision)
		if errors.Is(err, ErrConflict) {
			continue // somebody created it, or the marker went away: look again
		}
		return rev, err
	}
}

// update writes a record over the one at revision rev. Revision 0 is that of no record.
func (c collection[T]) update(ctx context.Context, key string, rec T, rev uint64) (uint64, error) {
	e, err := c.bucket.Get(ctx, key)
	if err != nil {
		return 0, translate(err)
	}
	if e.Revision != rev {
		return 0, ErrConflict
	}
	return c.put(ctx, key, rec, rev)
}

func (c collection[T]) put(ctx context.Context, key string, rec T, expected uint64) (uint64, error) {
	value, err := proto.Marshal(rec)
	if err != nil {
		return 0, fmt.Errorf("encode record of bucket %s: %w", c.bucket.Name(), err)
	}
	rev, err := c.bucket.Put(ctx, key, value, expected)
	return rev, translate(err)
}

// remove deletes the record at revision rev, or at whichever it is if rev is 0.
func (c collection[T]) remove(ctx context.Context, key string, rev uint64) (uint64, error) {
	for {
		e, err := c.bucket.Get(ctx, key)
		if err != nil {
			return 0, translate(err)
		}
		if rev != 0 && e.Revision != rev {
			return 0, ErrConflict
		}
		deleted, err := c.bucket.Delete(ctx, key, e.Revision, markerKept)
		if rev == 0 && errors.Is(err, bucket.ErrConflict) {
			continue // it was changed in between, which is no reason not to delete it
		}
		return deleted, translate(err)
	}
}

func (c collection[T]) get(ctx context.Context, key string) (T, uint64, error) {
	var none T
	e, err := c.bucket.Get(ctx, key)
	if err != nil {
		return none, 0, translate(err)
	}
	rec, err := c.decode(e.Value)
	if err != nil {
		return none, 0, err
	}
	return rec, e.Revision, nil
}

func (c collection[T]) decode(value []byte) (T, error) {
	rec := c.empty()
	if err := proto.Unmarshal(value, rec); err != nil {
		var none T
		return none, fmt.Errorf("decode record of bucket %s: %w", c.bucket.Name(), err)
	}
	return rec, nil
}

// list reads the records whose keys match pattern, in the order of what order makes of a key,
// those after `after`, at most limit. A key for which order is not ok is not listed. The list is
// no snapshot: it shows each record as it was at some moment of the call.
func (c collection[T]) list(
	ctx context.Context, pattern string, order func(key string) (string, bool), after string, limit int,
) ([]Entry[T], error) {
	keys, err := c.bucket.Keys(ctx, pattern)
	if err != nil {
		return nil, translate(err)
	}
	type place struct{ key, order string }
	places := make([]place, 0, len(keys))
	for _, k := range keys {
		if o, ok := order(k); ok && o > after {
			places = append(places, place{k, o})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.order, b.order) })
	out := []Entry[T]{}
	for len(places) > 0 && (limit <= 0 || len(out) < limit) {
		// Markers of deletions are among the keys, so a batch may give fewer records than keys.
		n := len(places)
		if limit > 0 {
			n = min(n, limit-len(out))
		}
		batch := make([]string, n)
		for i, p := range places[:n] {
			batch[i] = p.key
		}
		places = places[n:]
		found, err := c.getAll(ctx, batch)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// getAll reads the keys that have a value, in their order.
func (c collection[T]) getAll(ctx context.Context, keys []string) ([]Entry[T], error) {
	entries := make([]*Entry[T], len(keys))
	errs := make([]error, len(keys))
	slots := make(chan struct{}, listReads)
	var wg sync.WaitGroup
	for i, k := range keys {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			rec, rev, err := c.get(ctx, k)
			switch {
			case err == nil:
				entries[i] = &Entry[T]{Record: rec, Revision: rev}
			case !errors.Is(err, ErrNotFound):
				errs[i] = err
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out := make([]Entry[T], 0, len(keys))
	for _, e := range entries {
		if e != nil {
			out = append(out, *e)
		}
	}
	return out, nil
}

// translate gives the errors of buckets the kinds that callers act on.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bucket.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, bucket.ErrUnknown):
		return ErrUnknown.WithCause(err)
	case errors.Is(err, bucket.ErrConflict):
		return ErrConflict.WithCause(err)
	}
	return err
}
