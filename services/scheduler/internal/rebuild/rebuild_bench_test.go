//go:build integration

package rebuild_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/scheduler/internal/rebuild"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
	"github.com/postrider/postrider/test/fixture/natstest"
	"github.com/postrider/postrider/test/fixture/redistest"
)

const (
	benchAccount = "acc_0123456789abcdef"
	benchHooks   = 64
)

func benchHook(i int) postrider.WebhookID {
	return postrider.WebhookID("wh_0123456789abcdef" + strconv.Itoa(i%benchHooks))
}

// thin removes the records of every other webhook, so that sequences have gaps everywhere, and returns how many.
func thin(b *testing.B, s *retrystream.Streams) (removed int) {
	b.Helper()
	for i := 0; i < benchHooks; i += 2 {
		for shard := range s.Layout().Streams {
			n, err := s.RemoveWebhook(b.Context(), benchAccount, benchHook(i), retrystream.Place{Shard: shard, Sequence: math.MaxInt64})
			require.NoError(b, err)
			removed += int(n)
		}
	}
	return removed
}

// waiting stores n records of 1 KiB that are due much later.
func waiting(b *testing.B, s *retrystream.Streams, n int) {
	b.Helper()
	due, now, body := timestamppb.New(time.Now().Add(12*time.Hour)), timestamppb.Now(), bytes.Repeat([]byte("x"), 1024)
	failed := make(chan error, n)
	for i := range n {
		event, hook := postrider.NewEventID(), benchHook(i)
		r := &recordv1.Retry{
			Delivery: &recordv1.Delivery{
				Id: string(postrider.DeliveryIDFor(event, hook, "")), AccountId: benchAccount, WebhookId: string(hook),
				EventId: string(event), EventSequence: uint64(i + 1), EventType: "release.live", EventTime: now, AcceptTime: now, RouteTime: now,
				ContentType: "application/json", Data: body,
				Progress: &recordv1.Progress{Attempts: 1, FirstAttemptTime: now, LastAttemptTime: now, LastStatusCode: 503, LastErrorClass: "http_status"},
			},
			Kind: recordv1.RetryKind_RETRY_KIND_WAITING, DueTime: due, Reason: "http_status",
		}
		require.NoError(b, s.Put(b.Context(), r, func(_ retrystream.Place, err error) { failed <- err }))
	}
	for range n {
		require.NoError(b, <-failed)
	}
}

// BenchmarkRebuild fills an empty Redis from records on a NATS server in this process. What it says of processor
// time is of that server and the rebuild; that of Redis is apart.
func BenchmarkRebuild(b *testing.B) {
	for _, c := range []struct {
		n    int
		gaps bool
	}{{100_000, false}, {200_000, true}, {1_000_000, false}} {
		n := c.n
		b.Run(fmt.Sprintf("%d/gaps=%t", n, c.gaps), func(b *testing.B) {
			cfg := stream.Default()
			cfg.Shards = 4
			client, err := stream.New(natstest.Start(b).Connect(b), cfg)
			require.NoError(b, err)
			b.Cleanup(client.Close)
			records, err := retrystream.Ensure(b.Context(), client, retrystream.Config{Grace: time.Minute})
			require.NoError(b, err)
			b.Cleanup(records.Close)
			waiting(b, records, n)
			if c.gaps {
				n -= thin(b, records)
			}
			store := redistest.Start(b).Client(b)
			metrics, err := rebuild.NewMetrics(telemetry.Noop().Meter("test"))
			require.NoError(b, err)
			redisCPU := func() (sum float64) {
				info, err := store.Info(b.Context(), "cpu").Result()
				require.NoError(b, err)
				for line := range strings.Lines(info) {
					for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
						if text, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
							f, err := strconv.ParseFloat(text, 64)
							require.NoError(b, err)
							sum += f
						}
					}
				}
				return sum
			}
			ourCPU := func() float64 {
				var u syscall.Rusage
				require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
				return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
			}
			var ours, theirs float64
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				require.NoError(b, store.FlushAll(b.Context()).Err())
				index, whole := retryset.NewRedis(store), make(chan struct{}, 1)
				r := rebuild.New(rebuild.Deps{
					Records: records, Index: index, Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
					Look: func(retrystream.Entry) {}, Refilled: func() { whole <- struct{}{} },
				})
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan struct{})
				ours, theirs = ours-ourCPU(), theirs-redisCPU()
				b.StartTimer()
				go func() {
					defer close(ended)
					_ = r.Run(ctx)
				}()
				r.Lost()
				<-whole
				b.StopTimer()
				ours, theirs = ours+ourCPU(), theirs+redisCPU()
				cancel()
				<-ended
				got, err := index.Count(b.Context())
				require.NoError(b, err)
				require.EqualValues(b, n, got)
				b.StartTimer()
			}
			b.ReportMetric(ours*1e6/float64(n*b.N), "cpu-us/retry")
			b.ReportMetric(theirs*1e6/float64(n*b.N), "redis-cpu-us/retry")
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "retries/s")
		})
	}
}
