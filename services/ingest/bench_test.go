package ingest_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/ingest"
)

// kilobyte is the data of the events that benchmarks publish.
var kilobyte = `{"text":"` + strings.Repeat("x", 1000) + `"}`

func BenchmarkIngest(b *testing.B) {
	bench := setup(b)
	benchmark(b, bench, bench.start(b, ingest.NewMemoryDedup()))
}

// benchmark times the three ways over gRPC, one event each time.
func benchmark(b *testing.B, bench *bench, in *ingestOf) {
	b.Helper()
	var n atomic.Int64
	next := func() *postriderv1.PublishEventRequest {
		return requestOf("bench-"+strconv.FormatInt(n.Add(1), 10), kilobyte)
	}
	b.Run("unary", func(b *testing.B) {
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			ctx := as(b.Context(), bench.key)
			for pb.Next() {
				if _, err := in.events.PublishEvent(ctx, next()); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("batch of 50", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			ctx := as(b.Context(), bench.key)
			req := &postriderv1.BatchPublishEventsRequest{}
			for more := true; more; {
				if more = pb.Next(); more {
					req.Requests = append(req.Requests, next())
				}
				if len(req.GetRequests()) == 50 || (!more && len(req.GetRequests()) > 0) {
					if _, err := in.events.BatchPublishEvents(ctx, req); err != nil {
						b.Error(err)
					}
					req.Requests = nil
				}
			}
		})
	})
	b.Run("stream", func(b *testing.B) {
		stream, err := in.events.StreamEvents(as(b.Context(), bench.key))
		require.NoError(b, err)
		sent := make(chan error, 1)
		go func() {
			for range b.N {
				if err := stream.Send(&postriderv1.StreamEventsRequest{Request: next()}); err != nil {
					sent <- err
					return
				}
			}
			sent <- stream.CloseSend()
		}()
		for range b.N {
			answer, err := stream.Recv()
			require.NoError(b, err)
			require.NotNil(b, answer.GetVerdict().GetReceipt())
		}
		require.NoError(b, <-sent)
	})
}
