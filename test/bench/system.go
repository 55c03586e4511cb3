package bench

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// system is one running form of Postrider.
type system struct {
	api, ingest string // gRPC targets
	web         string // base URL of the api; empty for one process
	nats        string // URL; empty for one process
	adminKey    string
	procs       processes
	metrics     map[string]string // metrics pages by process, where there is one
	stop        func() error
	cluster     *cluster.Cluster // nil for one process
}

// What is shipped, set all the same, so that what the report says of it is what ran.
const (
	duplicateWindow = 2 * time.Minute // of Msg-Ids, of the separate processes
	dedupWindow     = 24 * time.Hour  // of deduplication keys
)

// The two forms.
const (
	separate   = "separate processes"
	oneProcess = "one process"
)

func start(ctx context.Context, form string, opts *Options, dir string) (*system, error) {
	// What an earlier run left is encrypted with a key that is gone.
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return nil, err
	}
	if form == oneProcess {
		s, err := cluster.StartStandalone(ctx, opts.Bin, dir, nil)
		if err != nil {
			return nil, err
		}
		return &system{
			api: s.GRPC, ingest: s.GRPC, adminKey: s.AdminKey, procs: processes{"postrider": s.PID()},
			metrics: map[string]string{"postrider": s.MetricsURL()}, stop: s.Stop,
		}, nil
	}
	profiler, natsConfig, err := natsProfiler(ctx, opts)
	if err != nil {
		return nil, err
	}
	streams := map[string]string{"POSTRIDER_STREAMS_DUPLICATE_WINDOW": duplicateWindow.String()}
	if opts.segments > 0 {
		streams["POSTRIDER_STREAMS_SEGMENTS"] = strconv.Itoa(opts.segments)
	}
	c, err := cluster.Start(ctx, cluster.Options{
		Bin: opts.Bin, Dir: dir, Replicas: 1, Shards: opts.Shards, NATSConfig: natsConfig, ReplicasOf: opts.replicas,
		Env: streams, EnvOf: opts.environment, NATSNodes: opts.nodes, NATSSync: natsSync(opts.nodes),
	})
	if err != nil {
		return nil, err
	}
	s := &system{
		api: plain(c.APITarget()), ingest: plain(c.IngestTarget()), web: c.APIURLs()[0], nats: c.NATSURL, adminKey: c.AdminKey,
		procs: processes{}, metrics: map[string]string{}, stop: c.Stop, cluster: c,
	}
	for _, p := range c.Processes() {
		if len(c.Of(p.Service)) == 1 {
			s.procs[p.Service] = p.PID()
		} else {
			s.procs[p.Name] = p.PID()
		}
	}
	for _, service := range cluster.Services {
		s.metrics[service] = c.MetricsURL(c.Of(service)[0])
	}
	if profiler != "" {
		s.metrics["nats"] = profiler
	}
	return s, nil
}

// natsSync is when NATS syncs to disk: as production does with several servers, and as development does with
// one.
func natsSync(nodes int) string {
	if nodes > 1 {
		return "always"
	}
	return "1s"
}

// environment is what a service is given besides what any cluster gives it.
func (o *Options) environment(service string) map[string]string {
	env := maps.Clone(o.env[service])
	if service == "ingest" {
		env = merge(env, "POSTRIDER_INGEST_DEDUP_WINDOW", dedupWindow.String())
	}
	if service == "dispatcher" && o.caFile != "" {
		env = merge(env, "POSTRIDER_DISPATCHER_EGRESS_CA_FILE", o.caFile)
	}
	return env
}

func merge(env map[string]string, name, value string) map[string]string {
	if env == nil {
		env = map[string]string{}
	}
	env[name] = value
	return env
}

// natsProfiler lets the NATS server serve profiles when they are asked for, and says where.
func natsProfiler(ctx context.Context, opts *Options) (page, config string, err error) {
	if opts.Profiles == "" {
		return "", "", nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer func() { _ = l.Close() }() // the server takes the port over
	_, port, err := net.SplitHostPort(l.Addr().String())
	return "http://127.0.0.1:" + port, "prof_port: " + port, err
}

// plain is the address of a target that names one, for a gRPC client without our resolver.
func plain(target string) string { return strings.TrimPrefix(target, "static:///") }

// tenant makes an account with groups of webhooks: each group wants an event type of its own, and
// has fanOut webhooks. It returns a producer for the account that publishes the types in turn.
func (s *system) tenant(ctx context.Context, receiverURL string, groups, fanOut int) (*producer, error) {
	return s.tenantAt(ctx, groups, fanOut, func(n int) string { return receiverURL + hookPath + strconv.Itoa(n) })
}

// tenantAt is tenant with a URL for the number of each webhook.
func (s *system) tenantAt(ctx context.Context, groups, fanOut int, url func(n int) string) (_ *producer, err error) {
	conn, err := rpc.Dial(rpc.ClientConfig{Target: s.api})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	accounts, webhooks := postriderv1.NewAccountServiceClient(conn), postriderv1.NewWebhookServiceClient(conn)
	admin := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.adminKey)
	acc, err := accounts.CreateAccount(admin, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: "bench"}})
	if err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	id := acc.GetAccount().GetId()
	key, err := accounts.CreateApiKey(admin, &postriderv1.CreateApiKeyRequest{AccountId: id, Scopes: []string{"publish", "manage", "read"}})
	if err != nil {
		return nil, fmt.Errorf("create key: %w", err)
	}
	owner := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key.GetSecret())
	types, hooks := make([]string, groups), make([]string, 0, groups*fanOut)
	for g := range groups {
		types[g] = groupType(g)
		for n := range fanOut {
			made, err := webhooks.CreateWebhook(owner, &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
				Url: url(g*fanOut + n), EventTypes: []string{types[g]},
			}})
			if err != nil {
				return nil, fmt.Errorf("create webhook: %w", err)
			}
			hooks = append(hooks, made.GetWebhook().GetId())
		}
	}
	p, err := newProducer(s.ingest, key.GetSecret(), types)
	if err != nil {
		return nil, err
	}
	p.account, p.webhooks = id, hooks
	return p, nil
}

// groupType is the event type of a group of webhooks.
func groupType(group int) string { return fmt.Sprintf("bench.group%02d", group) }

// receiverProcess is a receiver in a process of its own.
type receiverProcess struct {
	url       string
	secureURL string // the same receiver, over TLS
	ca        []byte // PEM; who vouches for secureURL
	pid       int
	cmd       *exec.Cmd
	in        io.WriteCloser
}

func startReceiver(ctx context.Context) (*receiverProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &receiverProcess{cmd: exec.CommandContext(ctx, self, "receiver")}
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), r.stop())
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return nil, errors.Join(fmt.Errorf("start the receiver: it said %q", line), r.stop())
	}
	r.url, r.secureURL, r.pid = fields[0], fields[1], r.cmd.Process.Pid
	if r.ca, err = base64.StdEncoding.DecodeString(fields[2]); err != nil {
		return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), r.stop())
	}
	return r, nil
}

func (r *receiverProcess) stop() error { return errors.Join(r.in.Close(), r.cmd.Wait()) }

func (r *receiverProcess) get(ctx context.Context, path string) (io.ReadCloser, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, fmt.Errorf("ask the receiver: %w", err)
	}
	return resp.Body, nil
}

func (r *receiverProcess) reset(ctx context.Context) error {
	body, err := r.get(ctx, resetPath)
	if err != nil {
		return err
	}
	return body.Close()
}

func (r *receiverProcess) arrivals(ctx context.Context) ([]arrival, error) {
	body, err := r.get(ctx, arrivalsPath)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return readArrivals(body)
}

func (r *receiverProcess) count(ctx context.Context) (int, error) {
	body, err := r.get(ctx, countPath)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// Times of await.
const (
	countStep  = 50 * time.Millisecond
	noProgress = 20 * time.Second
)

// await waits until at least n requests arrived.
func (r *receiverProcess) await(ctx context.Context, n int) error {
	ticker := time.NewTicker(countStep)
	defer ticker.Stop()
	last, at := -1, time.Now()
	for {
		got, err := r.count(ctx)
		if err != nil {
			return err
		}
		if got >= n {
			return nil
		}
		if got != last {
			last, at = got, time.Now()
		}
		if time.Since(at) > noProgress {
			return fmt.Errorf("%d of %d deliveries arrived, and no more for %s", got, n, noProgress)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
