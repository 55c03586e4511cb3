//go:build chaos

package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/pgtest"
)

func TestLogStoreAwayForMinutes(t *testing.T) {
	t.Parallel()
	logDrill(t, 2*time.Minute)
}

func TestShortLogStoreAway(t *testing.T) {
	t.Parallel()
	logDrill(t, 5*time.Second)
}

// sharedLog is what the consumer is named after that fills the log of both api replicas.
const sharedLog = "shared"

// logDrill kills the PostgreSQL of the delivery log under load and leaves it away. The log is on no
// path: everything that is accepted meanwhile must be delivered before the log is back. Then the log
// must come to know all of it, and say so only when it does.
func logDrill(t *testing.T, away time.Duration) {
	t.Helper()
	d := roll(t)
	server := pgtest.Start(t, pgtest.Fast()...) // which by itself forgets commits of a moment before a crash
	url := server.URL(t)
	c := startClusterOf(t, cluster.Options{EnvOf: func(service string) map[string]string {
		if service != "api" {
			return nil
		}
		return map[string]string{"POSTRIDER_API_LOG_URL": url, "POSTRIDER_API_RECORDER": "recorder-" + sharedLog}
	}})
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: 50}
	r := &row{Fault: fmt.Sprintf("PostgreSQL of the delivery log gone for %s", away)}

	stop := flow(t, p)
	const inFlight = 10
	next := 200 + d.IntN(200)
	await(t, 2*time.Minute, time.Millisecond, func() string {
		return fmt.Sprintf("%d events accepted, %d deliveries in flight", w.ledger.acceptedCount(), w.ledger.inFlight())
	}, func() bool {
		unrecorded, err := s.unrecorded(t.Context(), sharedLog)
		return err == nil && unrecorded > 0 && w.ledger.acceptedCount() >= next && w.ledger.inFlight() >= inFlight
	})
	r.strike(t, w, "kill of PostgreSQL")
	before := w.ledger.acceptedCount()
	server.Down(t)
	gone := time.Now()
	_, err := w.logs[0].ListDeliveries(w.accounts[0].as(t.Context()), &postriderv1.ListDeliveriesRequest{})
	require.ErrorContains(t, err, codes.Unavailable.String(), "a log that is away has no answer")
	require.True(t, pause(t.Context(), time.Until(gone.Add(away))))
	stop()

	settle(t, w, s)
	sum := w.ledger.total()
	require.Zero(t, server.PID())
	require.Empty(t, sum.missing, "everything is delivered while the log is away")
	behind, err := s.unrecorded(t.Context(), sharedLog)
	require.NoError(t, err)
	require.Positive(t, behind)
	t.Logf("PostgreSQL is away for %s: %d events were accepted and delivered meanwhile, %d messages of the journal wait for the log",
		time.Since(gone).Round(time.Millisecond), w.ledger.acceptedCount()-before, behind)

	server.Up(t)
	back := time.Now()
	await(t, 2*time.Minute, 100*time.Millisecond, func() string { return fmt.Sprintf("%d messages are not recorded", behind) }, func() bool {
		behind, err = s.unrecorded(t.Context(), sharedLog)
		return err == nil && behind == 0
	})
	r.Recovery = time.Since(back)
	t.Logf("the log knows everything %s after PostgreSQL is back", r.Recovery.Round(time.Millisecond))
	conclude(t, w, s, r, p)
}
