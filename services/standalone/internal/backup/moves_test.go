package backup_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/bucket"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/services/standalone/internal/backup"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// A delivery that fails again and again goes round within one stream: its record is released, which
// appends the due message and removes the record, and the next attempt's record is appended before the due
// message is acknowledged. It is always there, so it must be in every backup.
func TestWhatGoesRoundInRetriesIsInEveryBackup(t *testing.T) {
	t.Parallel()
	full := natstest.Start(t)
	c, _ := open(t, full.NC(t))
	retries, err := retrystream.Ensure(t.Context(), c, retrystream.Default())
	require.NoError(t, err)
	t.Cleanup(retries.Close)

	const deliveries = 200
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var rounds atomic.Int64
	put := func(r *recordv1.Retry, then func()) {
		err := retries.Put(ctx, r, func(at retrystream.Place, err error) {
			if err != nil {
				return // the end
			}
			then()
			_ = retries.Release(ctx, retrystream.Record{Shard: at.Shard, Sequence: at.Sequence, Retry: r}, func(error) {})
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
	due, err := retries.Due(t.Context(), 0)
	require.NoError(t, err)
	var consuming sync.WaitGroup
	consuming.Go(func() {
		err := due.Consume(ctx, func(m *stream.Msg) {
			r, _, err := retrystream.DecodeDue(m)
			if err != nil {
				t.Error(err)
				return
			}
			r.Delivery.Progress.Attempts++
			r.Follows = m.Sequence()
			rounds.Add(1)
			put(r, func() { _ = m.Ack() })
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		consuming.Wait()
	})
	for i := range deliveries {
		put(&recordv1.Retry{
			Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: timestamppb.New(time.Now().Add(time.Hour)),
			Delivery: &recordv1.Delivery{
				Id: fmt.Sprintf("dlv_%d", i), AccountId: "acc_1", WebhookId: "wh_1", Data: make([]byte, 40<<10), Progress: &recordv1.Progress{Attempts: 1},
			},
		}, func() {})
	}
	for n := range 5 {
		before := rounds.Load()
		require.Eventually(t, func() bool { return rounds.Load() >= before+deliveries }, patience, time.Millisecond)
		dir := filepath.Join(t.TempDir(), strconv.Itoa(n))
		_, err := backup.Take(t.Context(), full.NC(t), dir, silent)
		require.NoError(t, err)
		empty := natstest.Start(t)
		_, err = backup.Restore(t.Context(), empty.NC(t), dir, silent)
		require.NoError(t, err)
		restored, err := stream.New(empty.NC(t), stream.Default())
		require.NoError(t, err)
		found := map[string]bool{}
		require.NoError(t, retrystream.Walk(t.Context(), restored, 0, func(s retrystream.Standing) error {
			found[s.Retry.GetDelivery().GetId()] = true
			return nil
		}))
		restored.Close()
		require.Len(t, found, deliveries, "backup %d, after %d rounds", n, rounds.Load())
	}
}

const patience = 30 * time.Second

// Each write of a key removes a message and stores another, so a key that is written all the time is
// always there.
func TestKeysThatAreWrittenAreInEveryBackup(t *testing.T) {
	t.Parallel()
	full := natstest.Start(t)
	c, _ := open(t, full.NC(t))
	b, err := bucket.Ensure(t.Context(), c, bucket.Spec{Name: "jobs"})
	require.NoError(t, err)
	const keys = 200
	payload := make([]byte, 50<<10) // so that files are begun often
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var rounds atomic.Int64
	var writing sync.WaitGroup
	for part := range 4 {
		writing.Go(func() {
			for n := part; ctx.Err() == nil; n += 4 {
				value := binary.BigEndian.AppendUint64(nil, uint64(n))
				if _, err := b.Put(ctx, strconv.Itoa(n%keys), append(value, payload...), bucket.AnyRevision); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				rounds.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		writing.Wait()
	})
	for n := range 3 {
		before := rounds.Load()
		require.Eventually(t, func() bool { return rounds.Load() >= before+2*keys }, patience, time.Millisecond)
		dir := filepath.Join(t.TempDir(), strconv.Itoa(n))
		_, err := backup.Take(t.Context(), full.NC(t), dir, silent)
		require.NoError(t, err)
		empty := natstest.Start(t)
		_, err = backup.Restore(t.Context(), empty.NC(t), dir, silent)
		require.NoError(t, err)
		restored, err := stream.New(empty.NC(t), stream.Default())
		require.NoError(t, err)
		again, err := bucket.Ensure(t.Context(), restored, bucket.Spec{Name: "jobs"})
		require.NoError(t, err)
		found, err := again.Keys(t.Context(), ">")
		require.NoError(t, err)
		require.Len(t, found, keys, "backup %d", n)
		restored.Close()
	}
}
