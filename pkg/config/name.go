package config

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

// NextNumber takes the next number of a counter, from 1. A number that was taken and not used is
// never given again.
func (s *Store) NextNumber(ctx context.Context, counter string) (int64, error) {
	k := key(counter)
	for {
		e, err := s.counters.Get(ctx, k)
		if err != nil && !errors.Is(err, bucket.ErrNotFound) {
			return 0, about("count", counter, translate(err))
		}
		last := int64(0)
		if err == nil {
			if last, err = strconv.ParseInt(string(e.Value), 10, 64); err != nil {
				return 0, fmt.Errorf("count %s: %w", counter, err)
			}
		}
		_, err = s.counters.Put(ctx, k, strconv.AppendInt(nil, last+1, 10), e.Revision)
		if errors.Is(err, bucket.ErrConflict) {
			continue // somebody else took it; each turn of the loop means that one got a number
		}
		if err != nil {
			return 0, about("count", counter, translate(err))
		}
		return last + 1, nil
	}
}

// Reserve takes a name that must be unique, such as a subdomain or a webhook's UUID, for owner.
// It fails with ErrExists if another owner has it; for the same owner it may be called again.
// Reserve before creating the record that bears the name, and Release after deleting it: a crash
// in between leaves a name that is taken for nothing, never one that two records bear.
func (s *Store) Reserve(ctx context.Context, kind, name, owner string) error {
	k := key(kind, name)
	for {
		e, err := s.names.Get(ctx, k)
		switch {
		case err == nil && string(e.Value) == owner:
			return nil
		case err == nil:
			return about("reserve", kind, ErrExists)
		case !errors.Is(err, bucket.ErrNotFound):
			return about("reserve", kind, translate(err))
		}
		_, err = s.names.Put(ctx, k, []byte(owner), e.Revision)
		if errors.Is(err, bucket.ErrConflict) {
			continue
		}
		return about("reserve", kind, translate(err))
	}
}

// Reserved is the owner of a name, or ErrNotFound.
func (s *Store) Reserved(ctx context.Context, kind, name string) (string, error) {
	e, err := s.names.Get(ctx, key(kind, name))
	if err != nil {
		return "", about("look up", kind, translate(err))
	}
	return string(e.Value), nil
}

// Release gives a name back if owner has it; if not, there is nothing to do.
func (s *Store) Release(ctx context.Context, kind, name, owner string) error {
	k := key(kind, name)
	e, err := s.names.Get(ctx, k)
	switch {
	case errors.Is(err, bucket.ErrNotFound), err == nil && string(e.Value) != owner:
		return nil
	case err != nil:
		return about("release", kind, translate(err))
	}
	_, err = s.names.Delete(ctx, k, e.Revision, markerKept)
	if errors.Is(err, bucket.ErrConflict) {
		return nil // it went to somebody else, so owner no longer had it
	}
	return about("release", kind, translate(err))
}
