package rpc_test

import (
	"context"
	"net"
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

// startServers returns the addresses of n servers.
func startServers(t *testing.T, n int) []string {
	t.Helper()
	addresses := make([]string, n)
	for i := range addresses {
		server, err := rpc.NewServer(rpc.ServerConfig{Listen: "127.0.0.1:0"}, logtest.New(t))
		require.NoError(t, err)
		require.NoError(t, server.Start(t.Context()))
		t.Cleanup(func() { _ = server.Stop(context.WithoutCancel(t.Context())) })
		addresses[i] = server.Addr().String()
	}
	return addresses
}

func dialAll(t *testing.T, addresses ...string) healthv1.HealthClient {
	t.Helper()
	conn, err := rpc.Dial(rpc.ClientConfig{Target: "static:///" + strings.Join(addresses, ",")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return healthv1.NewHealthClient(conn)
}

func TestATourAsksEachServerOnce(t *testing.T) {
	t.Parallel()
	addresses := startServers(t, 4)
	client := dialAll(t, addresses...)
	for range 3 { // the first finds them all being connected
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var asked []string
		for tour := rpc.NewTour(); !tour.Over(); {
			var from peer.Peer
			_, err := client.Check(tour.Context(ctx), &healthv1.HealthCheckRequest{}, grpc.Peer(&from))
			require.NoError(t, err)
			asked = append(asked, from.Addr.String())
			_, err = client.Check(ctx, &healthv1.HealthCheckRequest{}) // another call, which takes a turn
			require.NoError(t, err)
		}
		cancel()
		require.ElementsMatch(t, addresses, asked)
	}
}

func TestATourLeavesOutWhoIsAway(t *testing.T) {
	t.Parallel()
	addresses := startServers(t, 2)
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gone := closed.Addr().String()
	require.NoError(t, closed.Close())
	client := dialAll(t, addresses[0], gone, addresses[1])
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var asked []string
	for tour := rpc.NewTour(); !tour.Over(); {
		var from peer.Peer
		_, err := client.Check(tour.Context(ctx), &healthv1.HealthCheckRequest{}, grpc.Peer(&from))
		require.NoError(t, err)
		asked = append(asked, from.Addr.String())
	}
	require.Subset(t, asked, addresses)
	require.NotContains(t, asked, gone)
}

func TestATourOfNobodyEnds(t *testing.T) {
	t.Parallel()
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gone := closed.Addr().String()
	require.NoError(t, closed.Close())
	client := dialAll(t, gone)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tour := rpc.NewTour()
	_, err = client.Check(tour.Context(ctx), &healthv1.HealthCheckRequest{})
	require.Error(t, err)
	require.True(t, tour.Over())
}
