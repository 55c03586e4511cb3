package bucket

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// retryPause lies between two tries of the same write.
const retryPause = 100 * time.Millisecond

// codeDuplicateInFlight is the server's answer to a message whose first copy it is storing.
const codeDuplicateInFlight jetstream.ErrorCode = 10158

// Put writes a value if the key is at the expected revision: 0 if it must never have been written,
// the revision that Get returned, or AnyRevision.
func (b *Bucket) Put(ctx context.Context, key string, value []byte, expected uint64) (uint64, error) {
	m := &nats.Msg{Subject: b.prefix + key, Header: nats.Header{}, Data: value}
	return b.write(ctx, key, m, expected)
}

// Delete writes a marker in place of the value if the key is at the expected revision. The marker
// goes away after keep, 0 meaning never; followers that were away for longer must read everything.
func (b *Bucket) Delete(ctx context.Context, key string, expected uint64, keep time.Duration) (uint64, error) {
	m := &nats.Msg{Subject: b.prefix + key, Header: nats.Header{}}
	m.Header.Set(operationHeader, operationPurge)
	m.Header.Set(rollupHeader, rollupSubject)
	if keep > 0 {
		m.Header.Set(ttlHeader, keep.String())
	}
	return b.write(ctx, key, m, expected)
}

// write publishes until it is acknowledged or the budget is spent. All tries carry one message id.
// A cluster then answers a repeat of what is stored already with the first one's revision. A
// single server looks at the expected revision before the id and calls the repeat a conflict with
// itself; so a conflict after a try whose outcome is not known is looked into.
func (b *Bucket) write(ctx context.Context, key string, m *nats.Msg, expected uint64) (uint64, error) {
	id := nuid.Next()
	opts := []jetstream.PublishOpt{jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0)}
	if expected != AnyRevision {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(expected))
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.PublishBudget)
	defer cancel()
	uncertain := false
	for {
		try, done := context.WithTimeout(ctx, b.cfg.PublishTimeout)
		ack, err := b.js.PublishMsg(try, m, opts...)
		done()
		if err == nil {
			return ack.Sequence, nil
		}
		again, maybe := classify(err)
		uncertain = uncertain || maybe
		switch {
		case again && pause(ctx, retryPause):
			continue
		case isConflict(err) && !uncertain:
			return 0, fmt.Errorf("write %s of bucket %s: %w", key, b.name, ErrConflict)
		case isConflict(err):
			if revision, ok := b.isOurs(ctx, m.Subject, id); ok {
				return revision, nil
			}
		}
		if uncertain {
			return 0, fmt.Errorf("write %s of bucket %s: %w: %w", key, b.name, ErrUnknown, err)
		}
		return 0, fmt.Errorf("write %s of bucket %s: %w", key, b.name, err)
	}
}

// isOurs finds out whether the last message of a subject is the one with this id. If it is not,
// ours may still have been stored and replaced since.
func (b *Bucket) isOurs(ctx context.Context, subject, id string) (uint64, bool) {
	raw, err := retried(ctx, b, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return b.stream.GetLastMsgForSubject(ctx, subject)
	})
	if err != nil || raw.Header.Get(jetstream.MsgIDHeader) != id {
		return 0, false
	}
	return raw.Sequence, true
}

// classify says whether a failed try is worth another one, and whether it may have been stored.
func classify(err error) (again, maybe bool) {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		if api.ErrorCode == codeDuplicateInFlight {
			return true, true
		}
		// 503 is the server's passing trouble: no leader, no room, not ready.
		return api.Code == 503, false
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		return true, false // nobody took it
	}
	for _, final := range []error{nats.ErrConnectionClosed, nats.ErrMaxPayload, jetstream.ErrMsgNotFound, jetstream.ErrStreamNotFound} {
		if errors.Is(err, final) {
			return false, false
		}
	}
	return true, true
}

func isConflict(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Purge removes what a key holds up to and including a revision, without a trace: followers do not
// learn of it. What was written later stays.
func (b *Bucket) Purge(ctx context.Context, key string, upTo uint64) error {
	err := b.stream.Purge(ctx, jetstream.WithPurgeSubject(b.prefix+key), jetstream.WithPurgeSequence(upTo+1))
	if err != nil {
		return fmt.Errorf("purge %s of bucket %s: %w", key, b.name, err)
	}
	return nil
}

// pause waits for d; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
