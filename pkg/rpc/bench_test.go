package rpc_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/rpc"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// BenchmarkUnaryInMemory is what one unary call costs both sides, without a network.
func BenchmarkUnaryInMemory(b *testing.B) {
	l, dial := rpc.InMemory()
	s, err := rpc.NewServer(rpc.ServerConfig{}, slog.New(slog.NewJSONHandler(b.Output(), nil)), rpc.WithListener(l))
	require.NoError(b, err)
	schedulerv1.RegisterSchedulerServiceServer(s.Registrar(), &scheduler{schedule: func(context.Context, *schedulerv1.ScheduleRetryRequest) (*schedulerv1.ScheduleRetryResponse, error) {
		return &schedulerv1.ScheduleRetryResponse{}, nil
	}})
	require.NoError(b, s.Start(b.Context()))
	b.Cleanup(func() { require.NoError(b, s.Stop(context.WithoutCancel(b.Context()))) })
	cc, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, dial)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, cc.Close()) })
	client := schedulerv1.NewSchedulerServiceClient(cc)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.ScheduleRetry(b.Context(), &schedulerv1.ScheduleRetryRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}
