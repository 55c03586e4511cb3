package eventstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
)

// trimmedKey is where the bucket of checkpoints says what was trimmed of the first segment; of others
// with a suffix.
const trimmedKey = "trimmed"

// trimmed is the stored value: no event that was removed to make room was stored later than Newest,
// by the server's clock. It holds for every incarnation: a restored EVENTS lacks the same.
type trimmed struct {
	Newest time.Time `json:"newest"`
}

// Trim removes every event of the segment below a sequence, to make room. The caller vouches that they are routed
// and that no delivery refers to them. Who would read them later learns from TrimmedSince that they
// were there: that is written down before the first of them goes.
func (s *Segment) Trim(ctx context.Context, below uint64) error {
	if below <= 1 {
		return nil // there is nothing below; and 0 is no bound to the server
	}
	newest, err := s.storedBy(ctx, below-1)
	if err != nil {
		return fmt.Errorf("trim %s: %w", s.name, err)
	}
	if err := s.writeTrimmed(ctx, newest); err != nil {
		return fmt.Errorf("trim %s: %w", s.name, err)
	}
	if _, err := s.c.Purge(ctx, s.name, "", below); err != nil {
		return fmt.Errorf("trim %s below %d: %w", s.name, below, err)
	}
	return nil
}

// storedBy is a time by which the event at a sequence was stored; that one may be gone.
func (s *Segment) storedBy(ctx context.Context, sequence uint64) (time.Time, error) {
	m, err := s.c.Next(ctx, s.name, "", sequence)
	if err == nil {
		return m.StoredAt(), nil
	}
	if !errors.Is(err, stream.ErrNotFound) {
		return time.Time{}, err
	}
	return s.serverTime(ctx)
}

// writeTrimmed only moves forward, by compare-and-set.
func (s *Segment) writeTrimmed(ctx context.Context, newest time.Time) error {
	last, revision, err := s.readTrimmed(ctx)
	if err != nil {
		return err
	}
	if !last.Newest.Before(newest) {
		return nil
	}
	value, err := json.Marshal(trimmed{Newest: newest})
	if err != nil {
		return err
	}
	_, err = s.checkpoints.Put(ctx, trimmedKey+s.suffix, value, revision)
	return err
}

func (s *Segment) readTrimmed(ctx context.Context) (t trimmed, revision uint64, err error) {
	entry, err := s.checkpoints.Get(ctx, trimmedKey+s.suffix)
	if errors.Is(err, bucket.ErrNotFound) {
		return t, entry.Revision, nil
	}
	if err != nil {
		return t, 0, fmt.Errorf("read what was trimmed: %w", err)
	}
	if err := json.Unmarshal(entry.Value, &t); err != nil {
		return t, 0, fmt.Errorf("read what was trimmed: %w", err)
	}
	return t, entry.Revision, nil
}

// TrimmedSince says whether an event that was stored since a time may have been removed by Trim, so
// that Scan from there does not give all there were. Of the time only how long ago it is counts, as
// with Scan.
func (s *Stream) TrimmedSince(ctx context.Context, from time.Time) (bool, error) {
	for _, seg := range s.segments {
		if yes, err := seg.trimmedSince(ctx, from); err != nil || yes {
			return yes, err
		}
	}
	return false, nil
}

func (s *Segment) trimmedSince(ctx context.Context, from time.Time) (bool, error) {
	t, _, err := s.readTrimmed(ctx)
	if err != nil || t.Newest.IsZero() {
		return false, err
	}
	now, err := s.serverTime(ctx)
	if err != nil {
		return false, err
	}
	return t.Newest.After(now.Add(-time.Since(from))), nil
}
