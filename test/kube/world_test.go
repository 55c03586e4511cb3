// Package kube_test runs production as its manifests say, without a cluster: see README.md.
package kube_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/deploy/check"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/test/fixture/collectortest"
	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/plane"
	"github.com/postrider/postrider/test/kube/sandbox"
	"github.com/postrider/postrider/test/kube/stores"
)

func TestMain(m *testing.M) {
	sandbox.Child()
	code, done, err := sandbox.Isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if done || err != nil {
		os.Exit(max(code, exitCode(err))) //nolint:forbidigo // this is the main of the tests
	}
	m.Run()
}

func exitCode(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// patience bounds what takes seconds, on a slow machine too.
const patience = 3 * time.Minute

const adminKey = "admin-key-of-the-manifests-0123456789"

// public is where the receivers are: an address that is nobody's own, or the dispatcher would refuse
// it. Nothing leaves the namespace of the test.
var public = netip.MustParseAddr("11.0.0.10")

// collector is where spans go.
var collector = netip.MustParseAddr("10.1.0.20")

// world is production with its stores.
type world struct {
	cluster  *plane.Cluster
	stores   *stores.Stores
	receiver *receiver
	spans    *collectortest.Collector
}

// start runs all of it, and returns when every pod is available.
func start(t *testing.T) *world {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	rendered, err := check.Render("testdata/site")
	require.NoError(t, err)
	objects := make([]map[string]any, len(rendered))
	for i, o := range rendered {
		objects[i] = o
	}
	set, err := manifest.Load(objects)
	require.NoError(t, err)
	network, err := sandbox.NewNetwork(public, collector)
	require.NoError(t, err)
	authority, err := plane.NewAuthority("postrider")
	require.NoError(t, err)
	outside, err := plane.NewAuthority("the world")
	require.NoError(t, err)

	w := &world{stores: stores.Prepare(t, network, authority, root)}
	keyset, err := seal.Generate()
	require.NoError(t, err)
	store := w.stores.Secrets()
	store["postrider/admin-key"], store["postrider/encryption-key"] = adminKey, keyset
	dir := t.TempDir()
	w.cluster, err = plane.New(set, plane.Options{
		Dir: dir, Bin: filepath.Join(root, "var/kube/bin"), Network: network, Authority: authority, Store: store,
		Secrets: map[string]map[string][]byte{"receivers-ca": {"ca.crt": outside.PEM()}},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			w.logs(t)
		}
	})
	w.stores.Start(t, w.cluster.Names)
	w.cluster.Names.Fix("receiver.example.com", public)
	w.cluster.Names.Fix("otel-collector.observability.svc.cluster.local", collector)
	w.spans = collectortest.StartAt(t, netip.AddrPortFrom(collector, 4317).String())
	w.receiver = startReceiver(t, outside)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.cluster.Up(ctx))
	for _, d := range w.cluster.Deployments() {
		for _, p := range w.cluster.Pods(d) {
			require.NoError(t, p.Verify())
		}
	}
	return w
}

// stop terminates everything in order.
func (w *world) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, w.cluster.Stop(ctx))
	require.NoError(t, w.cluster.Faults())
}

func (w *world) logs(t *testing.T) {
	t.Helper()
	for _, d := range w.cluster.Deployments() {
		for _, p := range w.cluster.Pods(d) {
			t.Logf("---- %s\n%s", p.Name, p.Process().Tail(15))
		}
	}
}
