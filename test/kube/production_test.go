package kube_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/pod"
)

// TestProductionRolls runs the production overlay, rolls every deployment under load, one after the
// other and then all at the same time, as a change of the common ConfigMap does, and holds that
// nothing is lost, stuck or delivered twice, that every stop is clean and within its grace, and
// that readiness is withdrawn before connections are refused.
func TestProductionRolls(t *testing.T) {
	w := start(t)
	t.Log("all pods are available, and run as the manifests say. Left to a cluster:")
	for _, line := range manifest.Table() {
		t.Log("  " + line)
	}
	w.scrape(t)
	w.servers(t)
	l := w.publish(t, pace)
	require.Eventually(t, func() bool { n, _ := w.receiver.count(); return n > 100 }, patience, 50*time.Millisecond, "nothing arrives")

	for _, d := range w.cluster.Deployments() {
		began := time.Now()
		drains := w.roll(t, d)
		t.Logf("%s rolled in %s", d, time.Since(began).Round(100*time.Millisecond))
		report(t, drains)
	}
	var all sync.WaitGroup
	for _, d := range w.cluster.Deployments() {
		all.Go(func() { w.roll(t, d) })
	}
	all.Wait()
	t.Log("all rolled at the same time")
	require.False(t, t.Failed())
	for _, d := range w.cluster.Deployments() {
		for _, p := range w.cluster.Pods(d) {
			require.NoError(t, p.Verify())
		}
	}
	l.stop()
	l.settle(t)
	_, repeats := w.receiver.count()
	require.Zero(t, repeats, "whoever stops finishes or gives back what it has")
	require.Empty(t, l.severed(), "a producer's call was cut off")
	w.stop(t)
	require.NotEmpty(t, w.spans.Spans(), "one in a hundred events leaves a trace")
}

// scrape holds that Prometheus would find every pod under the labels that the rules ask for.
func (w *world) scrape(t *testing.T) {
	t.Helper()
	seen := map[string]int{}
	for _, page := range w.cluster.Scrape(t.Context()) {
		require.NoError(t, page.Err, page.Pod)
		require.Equal(t, "postrider", page.Labels["job"], page.Pod)
		require.Contains(t, page.Text, "postrider_build_info", page.Pod)
		seen[page.Labels["service"]]++
	}
	require.Equal(t, map[string]int{"api": 2, "dispatcher": 2, "ingest": 2, "router": 2, "scheduler": 2}, seen)
}

// servers holds that the operator of NATS sees all servers and may not touch what is in them, and that
// its admin does not see them.
func (w *world) servers(t *testing.T) {
	t.Helper()
	const ping = "$SYS.REQ.SERVER.PING"
	operator := w.stores.Operator(t)
	inbox := operator.NewRespInbox()
	answers, err := operator.SubscribeSync(inbox)
	require.NoError(t, err)
	require.NoError(t, operator.PublishRequest(ping, inbox, nil))
	for range w.stores.NATS {
		_, err := answers.NextMsg(10 * time.Second)
		require.NoError(t, err, "a server does not answer its operator")
	}
	require.NoError(t, operator.LastError())
	require.NoError(t, operator.Publish("$JS.API.ACCOUNT.PURGE.$G", nil))
	require.NoError(t, operator.FlushTimeout(10*time.Second))
	require.ErrorIs(t, operator.LastError(), nats.ErrPermissionViolation)
	_, err = w.stores.Admin(t).Request(ping, nil, 10*time.Second)
	require.ErrorIs(t, err, nats.ErrNoResponders)
}

func (w *world) roll(t *testing.T, deployment string) []pod.Drain {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	drains, err := w.cluster.Rollout(ctx, deployment)
	if err != nil {
		t.Errorf("%s: %v", deployment, err)
	}
	return drains
}

// slow is a stop whose log is shown.
const slow = 5 * time.Second

func report(t *testing.T, drains []pod.Drain) {
	t.Helper()
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	for _, d := range drains {
		t.Logf("  %-14s out of its services %s before SIGTERM; after it: last ready %s, refuses %s, ended %s of %s; %d MiB at most",
			d.Pod, d.PreStop, ms(d.Ready), ms(d.Closed), ms(d.Stop), d.Grace-d.PreStop, d.Peak>>20)
		if d.Stop > slow {
			t.Log(d.Log)
		}
	}
}
