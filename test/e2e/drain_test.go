//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// A service that is told to stop while it still waits for NATS ends well, at once, and says so.
func TestAServiceThatIsToldToStopBeforeItHasStartedEndsWell(t *testing.T) {
	c, _ := system.StartCluster(t, cluster.Options{})
	for _, service := range cluster.Services {
		for _, p := range c.Of(service) {
			p.Terminate()
			require.NoError(t, p.Wait(t.Context()), "%s\n%s", p.Name, p.Tail(20))
		}
	}
	require.NoError(t, c.Of("nats")[0].Stop(system.Patience))
	for _, service := range cluster.Services {
		p := c.Of(service)[0]
		require.NoError(t, p.Start())
		require.Eventually(t, func() bool { return strings.Contains(p.Tail(1), "NATS cannot be reached yet") }, system.Patience, 5*time.Millisecond, p.Name)
		p.Terminate()
		require.NoError(t, p.Wait(t.Context()), "%s\n%s", p.Name, p.Tail(20))
		require.Contains(t, p.Tail(1), "stopped before everything had started", p.Name)
	}
}

// Every binary asks the process beside it whether it is ready, by that process's own configuration.
func TestABinarySaysWhetherItsProcessIsReady(t *testing.T) {
	c, _ := system.StartCluster(t, cluster.Options{})
	for _, service := range cluster.Services {
		p := c.Of(service)[0]
		ask := func() (string, error) {
			cmd := exec.CommandContext(t.Context(), p.Path, "health")
			cmd.Env = p.Env
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		out, err := ask()
		require.NoError(t, err, "%s: %s", service, out)
		require.Equal(t, "ready\n", out)
		p.Kill()
		out, err = ask()
		require.Error(t, err, service)
		require.Contains(t, out, "connection refused", service)
	}
}

// producers is how many publish at once while processes are asked to stop.
const producers = 4

// SIGTERM for one replica of each service after the other, under load: each ends with exit code 0
// and says that its stop was clean, and every event that was accepted arrives exactly once.
func TestStopsUnderLoadLoseAndRepeatNothing(t *testing.T) {
	c, s := system.StartCluster(t, cluster.Options{})
	a := s.NewAccount(t)
	receiver := receivertest.New(t).Answer(receivertest.After(30*time.Millisecond, receivertest.Status(http.StatusOK)))
	a.Webhook(t, &postriderv1.Webhook{Url: receiver.URL, EventTypes: []string{"*"}})

	load, end := context.WithCancel(a.Ctx(t))
	defer end()
	var accepted atomic.Int64
	ended := make(chan struct{}, producers)
	for n := range producers {
		go func() {
			defer func() { ended <- struct{}{} }()
			for i := 0; load.Err() == nil; i++ {
				publishUntilAccepted(load, t, a, fmt.Sprintf("%d-%d", n, i), &accepted)
			}
		}()
	}
	for _, service := range []string{"ingest", "router", "dispatcher", "scheduler", "api"} {
		before := accepted.Load()
		require.Eventually(t, func() bool { return accepted.Load() > before+100 }, system.Patience, 5*time.Millisecond, "nothing is accepted before %s stops", service)
		p := c.Of(service)[0]
		p.Terminate()
		require.NoError(t, p.Wait(t.Context()), "%s\n%s", p.Name, p.Tail(20))
		stopped := stopLine(p)
		require.Contains(t, stopped, `"clean":true`, p.Name)
		t.Log(p.Name, stopped)
		require.NoError(t, p.Start())
		require.NoError(t, p.WaitReady(t.Context()))
	}
	end()
	for range producers {
		<-ended
	}
	receiver.AwaitCount(t, int(accepted.Load()))
	seen := map[string]int{}
	for _, r := range receiver.All() {
		seen[r.Header.Get("Webhook-Id")]++
	}
	for id, n := range seen {
		require.Equal(t, 1, n, "%s was sent %d times", id, n)
	}
	require.Len(t, seen, int(accepted.Load()))
}

// stopLine is what a process says of its stop, near the end of its log; empty if it says nothing.
func stopLine(p *cluster.Process) string {
	for line := range strings.Lines(p.Tail(5)) {
		if strings.Contains(line, `"msg":"stopped"`) {
			return line
		}
	}
	return ""
}

// publishUntilAccepted repeats an event under its key until it is accepted, also beyond the end of
// the load: an event that got no answer may be stored. It fails the test once it has been refused
// for much longer than any process takes to come back.
func publishUntilAccepted(load context.Context, t *testing.T, a *system.Account, key string, accepted *atomic.Int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(load), 3*system.Patience)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, 10*time.Second)
		_, err := a.Events.PublishEvent(attempt, &postriderv1.PublishEventRequest{
			IdempotencyKey: key, Event: &postriderv1.EventInput{Type: "order.paid", Data: []byte(`{}`)},
		})
		end()
		if err == nil {
			accepted.Add(1)
			return
		}
		if !assert.NoError(t, ctx.Err(), "%s is refused for %s: %v", key, 3*system.Patience, err) {
			return
		}
	}
}

// Every process of a cluster serves the same pages, and its metrics name it.
func TestEveryProcessShowsItsMetrics(t *testing.T) {
	c, _ := system.StartCluster(t, cluster.Options{Replicas: 1})
	for _, service := range cluster.Services {
		page := c.MetricsURL(c.Of(service)[0])
		code, text := system.Call(t, http.MethodGet, page, "", "", "Accept", "application/openmetrics-text; version=1.0.0")
		require.Equal(t, http.StatusOK, code, service)
		require.Contains(t, text, "postrider_build_info{", service)
		require.Contains(t, text, "postrider_shutdown_duration_seconds", service)
		require.Contains(t, text, `service_name="`+service+`"`)
		level := strings.TrimSuffix(page, "/metrics") + "/loglevel"
		_, text = system.Call(t, http.MethodPut, level+"?for=1m", "", "debug")
		require.Equal(t, "debug\n", text, service)
		_, text = system.Call(t, http.MethodDelete, level, "", "")
		require.Equal(t, "info\n", text, service)
	}
}
