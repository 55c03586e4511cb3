package rpc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/postrider/postrider/pkg/rpc"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestAStaticTargetUsesEveryAddressInTurn(t *testing.T) {
	t.Parallel()
	addresses := make([]string, 2)
	for i := range addresses {
		server, err := rpc.NewServer(rpc.ServerConfig{Listen: "127.0.0.1:0"}, logtest.New(t))
		require.NoError(t, err)
		require.NoError(t, server.Start(t.Context()))
		t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
		addresses[i] = server.Addr().String()
	}
	conn, err := rpc.Dial(rpc.ClientConfig{Target: "static:///" + strings.Join(addresses, ",")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	seen := map[string]bool{}
	require.Eventually(t, func() bool {
		var from peer.Peer
		_, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}, grpc.Peer(&from))
		if err == nil {
			seen[from.Addr.String()] = true
		}
		return len(seen) == 2
	}, 10*time.Second, time.Millisecond)
}
