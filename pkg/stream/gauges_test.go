package stream_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// A backlog is shown by the one that watches it, with the age of its oldest message, and is gone
// from its page when it watches no more.
func TestABacklogIsShownWhileItIsWatched(t *testing.T) {
	t.Parallel()
	c := client(t, natstest.Start(t), quick())
	queue(t, c, jetstream.WorkQueuePolicy)
	con := worker(t, c)
	fill(t, c, 0, 3)
	tel, err := telemetry.New(telemetry.Default(), "test")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.WithoutCancel(t.Context()))) })
	gauges, err := stream.NewGauges(tel.Meter("test"))
	require.NoError(t, err)
	page := func() string {
		w := httptest.NewRecorder()
		tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		return w.Body.String()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		gauges.Watch(ctx, con, "7")
	}()
	messages := regexp.MustCompile(`postrider_backlog_messages\{consumer="worker",shard="7",stream="WORK"\} 3\n`)
	require.Eventually(t, func() bool { return messages.MatchString(page()) }, deadline, 10*time.Millisecond)
	require.Regexp(t, `postrider_backlog_oldest_age_seconds\{consumer="worker",shard="7",stream="WORK"\} [0-9.e-]*[1-9]`, page())
	require.Regexp(t, `postrider_stream_size_bytes\{shard="7",stream="WORK"\} [1-9]`, page())
	require.NotContains(t, page(), "postrider_stream_limit_bytes{", "there is no limit")
	cancel()
	receive(t, ended)
	require.NotContains(t, page(), "postrider_backlog_messages{")
	require.NoError(t, gauges.Close())
}
