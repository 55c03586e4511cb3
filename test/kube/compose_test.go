package kube_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/postrider/postrider/test/fixture/collectortest"
	"github.com/postrider/postrider/test/kube/composefile"
	"github.com/postrider/postrider/test/kube/engine"
	"github.com/postrider/postrider/test/kube/plane"
	"github.com/postrider/postrider/test/kube/sandbox"
)

// compose is docker-compose.yml, running, and a shell beside it.
type compose struct {
	root   string // of the checkout
	file   *composefile.File
	engine *engine.Engine
	spans  *collectortest.Collector
	env    []string // of the shell
}

// TestCompose runs docker-compose.yml as processes, takes the README's tour through the ports that it
// publishes, kills a replica of each service and takes the tour's last steps again, and stops it all.
func TestCompose(t *testing.T) {
	c := startCompose(t)
	c.ready(t)
	c.order(t)
	c.scrape(t)
	account, receivers := c.tour(t)
	c.ports(t)
	first := c.reaches(t, receivers, "before")
	c.kill(t)
	second := c.reaches(t, receivers, "after")
	require.NotEqual(t, first, second)
	c.balance(t, 2*3) // each of three events to both webhooks
	c.spans.Await(t, "a delivery's trace", func(s collectortest.Span) bool { return s.Service == "dispatcher" })
	t.Logf("%s balances, and spans of %s arrived", account, strings.Join(services(c.spans.Spans()), ", "))
	c.ready(t) // those that were killed, too: who is told to stop while it starts does not end with 0
	began := time.Now()
	require.NoError(t, c.engine.Down())
	require.Equal(t, []string{"1"}, processes(t), "something is left running besides the test")
	t.Logf("all of it had stopped after %s", time.Since(began).Round(100*time.Millisecond))
}

// startCompose does what the head of docker-compose.yml says.
func startCompose(t *testing.T) *compose {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	c := &compose{root: root}
	dir := t.TempDir()
	for path := dir; path != os.TempDir(); path = filepath.Dir(path) {
		require.NoError(t, os.Chmod(path, 0o755)) // the stores are other users
	}

	key := "compose-" + strings.Repeat("0123456789", 3)
	keyset := c.postrider(t, "encryption-key", "generate")
	env := filepath.Join(dir, ".env")
	require.NoError(t, os.WriteFile(env, []byte("POSTRIDER_KEY="+key+"\nPOSTRIDER_ENCRYPTION_KEY="+keyset+"\n"), 0o600))
	c.env = []string{"POSTRIDER_SERVER=127.0.0.1:9090", "POSTRIDER_INGEST_SERVER=127.0.0.1:9190", "POSTRIDER_KEY=" + key}

	c.file, err = composefile.Load(t.Context(), filepath.Join(root, "docker-compose.yml"), env)
	require.NoError(t, err)
	network, err := sandbox.NewNetwork(collector)
	require.NoError(t, err)
	c.engine, err = engine.New(c.file, engine.Options{Root: root, Bin: filepath.Join(root, "var/kube/bin"), Dir: dir, Network: network})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			c.logs(t)
			_ = c.engine.Down() // it has failed already
		}
	})
	c.collect(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	require.NoError(t, c.engine.Up(ctx))
	t.Logf("up after %s. Left to an engine:", time.Since(began).Round(100*time.Millisecond))
	for _, line := range composefile.Table() {
		t.Log("  " + line)
	}
	for _, s := range c.engine.NotRun() {
		name, _, _ := strings.Cut(s.Image, ":")
		t.Logf("  %-32s is not here: %s", s.Image, engine.Missing[name])
	}
	return c
}

// collect takes the place of the collector, which is not here: at its name, and at the port that its
// own configuration opens.
func (c *compose) collect(t *testing.T) {
	t.Helper()
	var config struct {
		Receivers struct {
			OTLP struct {
				Protocols struct {
					GRPC struct{ Endpoint string } `json:"grpc"`
				} `json:"protocols"`
			} `json:"otlp"`
		} `json:"receivers"`
	}
	c.read(t, "deploy/compose/otel-collector.yml", &config)
	listens := netip.MustParseAddrPort(config.Receivers.OTLP.Protocols.GRPC.Endpoint)
	require.Contains(t, c.file.Services, "otel-collector")
	c.engine.Names.Fix("otel-collector", collector)
	c.spans = collectortest.StartAt(t, netip.AddrPortFrom(collector, listens.Port()).String())
}

func (c *compose) read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, path))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, into))
}

// ready waits until every replica of ours says that it is. The file cannot: their images hold no
// program that would ask.
func (c *compose) ready(t *testing.T) {
	t.Helper()
	began := time.Now()
	for _, name := range c.engine.Services() {
		if c.file.Services[name].Environment["POSTRIDER_NATS_URL"] == "" {
			continue
		}
		for _, replica := range c.engine.Containers(name) {
			page := "http://" + netip.AddrPortFrom(replica.Address, 9464).String() + "/readyz"
			require.Eventually(t, func() bool { _, err := plane.Get(t.Context(), page, time.Second); return err == nil }, patience, 100*time.Millisecond, "%s is not ready", replica.Name)
		}
	}
	t.Logf("every replica is ready after %s", time.Since(began).Round(100*time.Millisecond))
}

// order holds that nothing was started before what it depends on was well, that there are as many
// containers as the file wants, that ours run as it says, and that a service's name is all of them.
func (c *compose) order(t *testing.T) {
	t.Helper()
	for _, name := range c.engine.Services() {
		s := c.file.Services[name]
		list := c.engine.Containers(name)
		require.Len(t, list, s.Replicas(), name)
		require.Len(t, c.engine.Names.Find(name), s.Replicas(), name)
		for _, replica := range list {
			require.Equal(t, []netip.Addr{replica.Address}, c.engine.Names.Find(replica.Name))
			if len(s.CapDrop) > 0 {
				require.True(t, s.ReadOnly, name)
				require.NoError(t, replica.Verify())
			}
			started, _ := replica.First()
			for other, d := range s.DependsOn {
				for _, o := range c.engine.Containers(other) {
					_, well := o.First()
					require.Equal(t, composefile.Healthy, d.Condition)
					require.True(t, !well.IsZero() && well.Before(started), "%s started before %s was well", replica.Name, o.Name)
				}
			}
		}
	}
}

// scrape holds that Prometheus would find every replica of ours by the names in its configuration,
// under a label that says which service it is.
func (c *compose) scrape(t *testing.T) {
	t.Helper()
	var config struct {
		Jobs []struct {
			Name string `json:"job_name"`
			DNS  []struct {
				Names []string `json:"names"`
				Port  uint16   `json:"port"`
			} `json:"dns_sd_configs"`
		} `json:"scrape_configs"`
	}
	c.read(t, "deploy/prometheus/prometheus.yml", &config)
	var absent []string
	pages := 0
	for _, job := range config.Jobs {
		for _, sd := range job.DNS {
			for _, name := range sd.Names {
				s, ok := c.file.Services[name]
				if !ok {
					absent = append(absent, name)
					continue
				}
				found := c.engine.Names.Find(name)
				require.Len(t, found, s.Replicas(), name)
				for _, address := range found {
					text, err := plane.Get(t.Context(), "http://"+netip.AddrPortFrom(address, sd.Port).String()+"/metrics", 10*time.Second)
					require.NoError(t, err, name)
					require.Contains(t, text, "postrider_build_info", name)
					pages++
				}
			}
		}
	}
	require.Equal(t, 10, pages)
	// Where they run, Prometheus finds them; here nobody needs them to look.
	require.Equal(t, []string{"nats-exporter", "redis-exporter"}, absent)
	t.Logf("Prometheus would scrape %d targets; not in the file: %v", pages, absent)
}

// postrider runs the command line, which is outside of the network, and returns what it printed.
func (c *compose) postrider(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.ask(args...)
	require.NoError(t, err, "postrider %s\n%s", strings.Join(args, " "), out)
	return out
}

// ask is postrider for what may fail.
func (c *compose) ask(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.root, "var/kube/bin/postrider"), args...)
	cmd.Dir, cmd.Env = c.root, c.env
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// field is the value of a line of what the command line prints.
func field(t require.TestingT, out, name string) string {
	m := regexp.MustCompile(`(?m)^` + name + ` +(.+)$`).FindStringSubmatch(out)
	require.NotNil(t, m, "there is no %s in\n%s", name, out)
	return m[1]
}

// tour is the README's, with its receiver as the head of the file runs it, and the demo receiver
// beside it. It returns the account, and both.
func (c *compose) tour(t *testing.T) (string, []*engine.Container) {
	t.Helper()
	account := field(t, c.postrider(t, "accounts", "create", "Acme Music"), "id")
	c.env = append(c.env, "POSTRIDER_ACCOUNT="+account)
	require.Contains(t, c.postrider(t, "event-types", "import", "catalogues/jewelmusic.json"), "16 created, 0 updated")

	listener, err := c.engine.Run("postrider", "tour", map[string]string{"POSTRIDER_ACCOUNT": account},
		"listen", "--create", "--events", "release.*", "--respond", "500,200", "--host", "0.0.0.0", "--port", "8000", "--url", "http://tour:8000/")
	require.NoError(t, err)
	await(t, listener, "is deleted in the end")
	c.postrider(t, "webhooks", "create", "http://receiver:8000/", "--events", "release.live", "--name", "demo")

	publish := func() string {
		return c.postrider(t, "publish", "release.live", "--data", `{"title":"My Album"}`, "--idempotency-key", "tour-1")
	}
	one, two := publish(), publish()
	require.Equal(t, "false", field(t, one, "duplicate"))
	require.Equal(t, "true", field(t, two, "duplicate"))
	event := field(t, one, "event")
	require.Equal(t, event, field(t, two, "event"))
	t.Log("published " + event + ", and once more under its key")

	await(t, listener, `(?s)answered 500.*webhook-id: `+event+`.*signature valid.*answered 200.*webhook-id: `+event+`.*signature valid`)
	demo := c.engine.Containers("receiver")[0]
	await(t, demo, `webhook-id: `+event)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		out, err := c.ask("deliveries", "list")
		require.NoError(t, err, out)
		require.Equal(t, 2, strings.Count(out, " delivered "), out)
	}, patience, 250*time.Millisecond)
	t.Logf("the tour's receiver:\n%s", listener.Output())
	return account, []*engine.Container{demo, listener}
}

// ports takes the tour's step over HTTP at both ports of ingest, and asks for the console and over gRPC
// at both of the api.
func (c *compose) ports(t *testing.T) {
	t.Helper()
	key := field(t, c.postrider(t, "keys", "create", "tour", "--scope", "publish,manage,read"), "key")
	for _, port := range []string{"8180", "8181"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:"+port+"/v1/events", strings.NewReader(`{"type":"bad type","data":{}}`))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err, port)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s: %s", port, body)
		require.Contains(t, string(body), "dot-separated words", port)
	}
	for _, port := range []string{"8080", "8081"} {
		page, err := plane.Get(t.Context(), "http://127.0.0.1:"+port+"/", 10*time.Second)
		require.NoError(t, err, port)
		require.Contains(t, page, "<html", port)
	}
	for _, port := range []string{"9090", "9091"} {
		require.Contains(t, c.postrider(t, "ledger", "--server", "127.0.0.1:"+port), "routed", port)
	}
}

// reaches publishes one more event and returns its id when the receivers have printed it.
func (c *compose) reaches(t *testing.T, receivers []*engine.Container, title string) string {
	t.Helper()
	began := time.Now()
	event := field(t, c.postrider(t, "publish", "release.live", "--data", fmt.Sprintf(`{"title":%q}`, title)), "event")
	for _, r := range receivers {
		await(t, r, `(?s)webhook-id: `+event+`.*`+strconv.Quote(title))
		t.Logf("published %s, and %s had it after %s", event, r.Name, time.Since(began).Round(time.Millisecond))
	}
	return event
}

// kill ends one replica of each service, all at the same time, and returns when they are back.
func (c *compose) kill(t *testing.T) {
	t.Helper()
	var killed []*engine.Container
	for _, name := range c.engine.Services() {
		list := c.engine.Containers(name)
		killed = append(killed, list[len(list)-1])
	}
	began := time.Now()
	for _, k := range killed {
		require.Zero(t, k.Restarts())
		k.Kill()
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(killed, func(k *engine.Container) bool {
			up, err := k.Up()
			return !up || err != nil || k.Restarts() == 0
		})
	}, patience, 100*time.Millisecond, "somebody is not back")
	t.Logf("%d containers were killed, and were back after %s", len(killed), time.Since(began).Round(100*time.Millisecond))
}

// balance waits until nothing moves and the ledger has everything where it should be.
func (c *compose) balance(t *testing.T, delivered int) {
	t.Helper()
	began := time.Now()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		out, err := c.ask("ledger")
		require.NoError(t, err, out)
		for name, want := range map[string]int{"routed": delivered, "delivered": delivered, "difference": 0, "unrecorded": 0} {
			require.Equal(t, strconv.Itoa(want), field(t, out, name), out)
		}
	}, patience, 250*time.Millisecond)
	t.Logf("the ledger balances %s after all had arrived\n%s", time.Since(began).Round(100*time.Millisecond), c.postrider(t, "reconcile"))
}

// await waits until a container has printed what matches.
func await(t *testing.T, c *engine.Container, pattern string) {
	t.Helper()
	want := regexp.MustCompile(pattern)
	require.Eventually(t, func() bool { return !c.Running() || want.MatchString(c.Output()) }, patience, 100*time.Millisecond, "%s does not print %s", c.Name, pattern)
	require.Regexp(t, want, c.Output(), c.Name)
}

// services are those that sent spans.
func services(spans []collectortest.Span) []string {
	var out []string
	for _, s := range spans {
		out = append(out, s.Service)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// processes are all in the namespace of the test.
func processes(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(t, err)
	var out []string
	for _, path := range found {
		out = append(out, filepath.Base(path))
	}
	return out
}

func (c *compose) logs(t *testing.T) {
	t.Helper()
	for _, name := range append(c.engine.Services(), "") {
		for _, replica := range c.engine.Containers(name) {
			t.Logf("---- %s, started %d times more\n%s", replica.Name, replica.Restarts(), replica.Process().Tail(15))
		}
	}
}
