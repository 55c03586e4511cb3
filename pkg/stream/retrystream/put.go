package retrystream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Put stores a record on its webhook's shard; done gets its place. It is pipelined: many may be in flight, and done
// is called once for each, on a goroutine of the package; it must not block. An error returned
// by Put itself means that done will not be called.
//
// The record is written with an expected last sequence of zero on its subject, because releasing
// its predecessor removed it. If one stands there, an equal or later attempt means that this call
// is stale (SupersededError); an earlier one is replaced by compare-and-set. What is later is said
// by series, then by attempts. An equal one that stands before the due message which the record
// follows is replaced too: it was released, but a server that was killed between storing the due
// message and removing the record keeps it, and leads with it (nats-server 2.15).
func (s *Streams) Put(ctx context.Context, r *recordv1.Retry, done func(at Place, err error)) error {
	sh := s.home(r.GetDelivery())
	if s.full(ctx, sh) {
		return fmt.Errorf("put retry of %s: %w", r.GetDelivery().GetId(), ErrFull)
	}
	call := s.call()
	m, err := s.record(sh, r, 0, call)
	if err != nil {
		return err
	}
	counted := func(sequence uint64, err error) {
		if err == nil {
			sh.count.messages.Add(1)
		}
		done(Place{sh.number, sequence}, err)
	}
	return s.publish(ctx, sh, m, counted, func(err error) (uint64, error) {
		if !errors.Is(err, stream.ErrWrongSequence) {
			return 0, err
		}
		return s.resolvePut(s.ctx, sh, r, call)
	})
}

// maxRounds bounds how often a record that others move under our feet is looked at.
const maxRounds = 10

// resolvePut finds out what stands on the record's subject, and puts the record in its place if
// it is earlier.
func (s *Streams) resolvePut(ctx context.Context, sh *shard, r *recordv1.Retry, call string) (uint64, error) {
	for range maxRounds {
		last, err := s.c.Last(ctx, name(sh.number), recordSubject(sh.number, r.GetDelivery()))
		expected := uint64(0)
		switch {
		case errors.Is(err, stream.ErrNotFound): // released meanwhile: the subject is free again
		case err != nil:
			return 0, err
		case last.Header.Get(headerPut) == call:
			return last.Sequence, nil // ours: stored, and its acknowledgement was lost
		default:
			standing, err := decode(sh.number, last)
			if err != nil {
				return 0, err
			}
			released := last.Sequence < r.GetFollows() && !later(standing.Retry, r)
			if !released && !later(r, standing.Retry) {
				return last.Sequence, &SupersededError{Standing: *standing}
			}
			expected = last.Sequence
		}
		m, err := s.record(sh, r, expected, call)
		if err != nil {
			return 0, err
		}
		ack, err := sh.publisher.PublishSync(ctx, m)
		if err == nil {
			return ack.Sequence, nil
		}
		if !errors.Is(err, stream.ErrWrongSequence) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("put retry of %s: %w: others change it all the time", r.GetDelivery().GetId(), stream.ErrUnavailable)
}

// later says whether r may take the place of the record that stands: a redrive begins a new series
// with fresh progress, and is later than whatever was before it.
func later(r, standing *recordv1.Retry) bool {
	a, b := r.GetDelivery().GetProgress(), standing.GetDelivery().GetProgress()
	return cmp.Or(cmp.Compare(a.GetSeries(), b.GetSeries()), cmp.Compare(a.GetAttempts(), b.GetAttempts())) > 0
}

// Replace puts r in the place of old: hold, unhold, postpone. ErrGone if old is not there.
func (s *Streams) Replace(ctx context.Context, old Record, r *recordv1.Retry) (uint64, error) {
	type fate struct {
		sequence uint64
		err      error
	}
	fates := make(chan fate, 1)
	if err := s.ReplaceAsync(ctx, old, r, func(sequence uint64, err error) { fates <- fate{sequence, err} }); err != nil {
		return 0, err
	}
	select {
	case f := <-fates:
		return f.sequence, f.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", stream.ErrUnknown, ctx.Err())
	}
}

// ReplaceAsync is Replace with many in flight; see Put for done.
func (s *Streams) ReplaceAsync(ctx context.Context, old Record, r *recordv1.Retry, done func(sequence uint64, err error)) error {
	sh := s.at(old.Shard)
	call := s.call()
	m, err := s.record(sh, r, old.Sequence, call)
	if err != nil {
		return err
	}
	return s.publish(ctx, sh, m, done, func(err error) (uint64, error) {
		if !errors.Is(err, stream.ErrWrongSequence) {
			return 0, err
		}
		last, err := s.c.Last(s.ctx, name(sh.number), m.Subject)
		switch {
		case errors.Is(err, stream.ErrNotFound):
			return 0, ErrGone
		case err != nil:
			return 0, err
		case last.Header.Get(headerPut) == call:
			return last.Sequence, nil // ours: stored, and its acknowledgement was lost
		}
		return 0, ErrGone
	})
}

// Release makes the record a due delivery: one publish appends the due message and removes the
// record. Done gets ErrGone when the record is not there: released, replaced, fired or removed.
// See Put for done.
//
// The publish names the record's sequence as the last of its subject, so of any number of
// schedulers that release it at once, and of the server that fires it, one succeeds. If the
// acknowledgement is lost, the repeat finds the record gone, which is the truth.
func (s *Streams) Release(ctx context.Context, r Record, done func(error)) error {
	return s.release(ctx, r, nats.Header{headerReleased: {"1"}}, done)
}

// Move is Release of a record that stands on a shard that its webhook has left, whenever it is due: the
// dispatcher that meets it puts it on its home.
func (s *Streams) Move(ctx context.Context, r Record, done func(error)) error {
	return s.release(ctx, r, nats.Header{headerReleased: {"1"}, headerMoved: {"1"}}, done)
}

func (s *Streams) release(ctx context.Context, r Record, header nats.Header, done func(error)) error {
	data, err := proto.Marshal(r.Retry)
	if err != nil {
		return fmt.Errorf("encode retry of %s: %w", r.Retry.GetDelivery().GetId(), err)
	}
	sh := s.at(r.Shard)
	subject := recordSubject(r.Shard, r.Retry.GetDelivery())
	header.Set(jetstream.SchedulerHeader, subject)
	header.Set(jetstream.ScheduleNextHeader, "purge")
	header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(r.Sequence, 10))
	header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, subject)
	m := &nats.Msg{Subject: dueSubject(r.Shard, r.Retry.GetDelivery()), Data: data, Header: header}
	released := func(_ uint64, err error) {
		if err == nil {
			s.anchor(sh)
		}
		done(err)
	}
	return s.publish(ctx, sh, m, released, func(err error) (uint64, error) {
		if errors.Is(err, stream.ErrWrongSequence) {
			return 0, ErrGone
		}
		return 0, err
	})
}

// publish sends a message within the bound of calls in flight. A refusal is looked into by
// resolve, on a goroutine of its own because it may ask the server.
func (s *Streams) publish(ctx context.Context, sh *shard, m *nats.Msg, done func(uint64, error), resolve func(error) (uint64, error)) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	finish := func(sequence uint64, err error) {
		<-s.slots
		done(sequence, err)
	}
	err := sh.publisher.Publish(ctx, m, func(ack stream.Ack, err error) {
		if err == nil {
			finish(ack.Sequence, nil)
			return
		}
		if !s.background(func() { finish(resolve(err)) }) {
			finish(0, err)
		}
	})
	if err != nil {
		<-s.slots
	}
	return err
}
