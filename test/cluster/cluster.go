// Package cluster runs Postrider as separate processes on one machine: a real nats-server, a real
// redis-server, and a number of replicas of each of the five services, with the environment that
// the manifests give them. Tests, drills, benchmarks and `make cluster` use it. It ends only
// processes that it started.
package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/test/fixture/ports"
)

// blockSize is how far apart the ports of two processes begin where the caller chose a base.
const blockSize = 10

// Services are the five services, in the order in which they are started; any order works.
var Services = []string{"api", "scheduler", "router", "dispatcher", "ingest"}

// Options says what to run.
type Options struct {
	// Bin is the folder of the binaries, nats-server among them. Required.
	Bin string
	// Dir keeps data and logs. Required.
	Dir string
	// Replicas of each service. Default 2.
	Replicas int
	// ReplicasOf is how many replicas of a service there are in place of Replicas; 0 for Replicas. May
	// be nil.
	ReplicasOf func(service string) int
	// Shards of the delivery streams. Default 4.
	Shards int
	// BasePort is the first port of a block of 10 for each process; 0 takes ports that are free.
	BasePort int
	// Env is added to the environment of every service.
	Env map[string]string
	// EnvOf is added to the environment of every replica of a service. May be nil.
	EnvOf func(service string) map[string]string
	// NATSConfig is added to the configuration of every NATS server.
	NATSConfig string
	// Adjust may change each service's process before its first start, such as its environment,
	// whose later entries win; the stores run by then.
	Adjust func(c *Cluster, p *Process) error
	// NATSSync is when NATS syncs what it stores to disk. Default "1s".
	NATSSync string
	// NATSNodes is how many NATS servers there are, 1 or 3. Default 1. Streams have as many replicas.
	NATSNodes int
	// NATSStore is the folder of what NATS stores, by server; nil for one below Dir.
	NATSStore func(server string) string
	// NATSThrough, if set, gives the address at which a process reaches a NATS server in place of
	// the server's own.
	NATSThrough func(process, address string) (string, error)
	// RedisArgs are added to the Redis server's command line.
	RedisArgs []string
}

// Cluster is what runs.
type Cluster struct {
	AdminKey string
	NATSURL  string
	RedisURL string

	opts      Options
	nats      []string       // addresses of the servers
	nextPort  int            // of the next process, where the caller chose a base
	reserved  []*ports.Block // the ports of all others
	key       string         // encryption keyset
	processes []*Process
}

// Start starts everything and returns when every process is ready.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	if opts.Replicas == 0 {
		opts.Replicas = 2
	}
	if opts.Shards == 0 {
		opts.Shards = 4
	}
	if opts.NATSNodes == 0 {
		opts.NATSNodes = 1
	}
	if opts.NATSSync == "" {
		opts.NATSSync = "1s"
	}
	if opts.NATSStore == nil {
		opts.NATSStore = func(server string) string { return filepath.Join(opts.Dir, server) }
	}
	keyset, err := seal.Generate()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, err
	}
	c := &Cluster{AdminKey: "admin-key-of-the-test-cluster-0123456789", opts: opts, key: keyset, nextPort: opts.BasePort}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.addNATS(); err != nil {
		return err
	}
	_, address, err := c.AddRedis("redis", c.opts.RedisArgs...)
	if err != nil {
		return err
	}
	c.RedisURL = "redis://" + address + "/0"
	if err := c.startAll(ctx); err != nil {
		return err
	}
	if err := c.addServices(); err != nil {
		return err
	}
	return c.startAll(ctx)
}

// startAll starts every process that does not run, side by side, and waits until all are ready.
func (c *Cluster) startAll(ctx context.Context) error {
	var started []*Process
	for _, p := range c.processes {
		if p.Running() {
			continue
		}
		if err := p.Start(); err != nil {
			return err
		}
		started = append(started, p)
	}
	for _, p := range started {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// addNATS adds the NATS servers; several form one JetStream cluster.
func (c *Cluster) addNATS() error {
	blocks := make([]int, c.opts.NATSNodes)
	var routes, clients []string
	for i := range blocks {
		block, err := c.block()
		if err != nil {
			return err
		}
		blocks[i] = block
		c.nats = append(c.nats, natsAddress(block))
		clients = append(clients, "nats://"+natsAddress(block))
		routes = append(routes, "nats://"+natsAddress(block+natsRoute))
	}
	c.NATSURL = strings.Join(clients, ",")
	for i, block := range blocks {
		name := "nats"
		ready := "/healthz?js-enabled-only=true"
		cluster := ""
		if len(blocks) > 1 {
			name = fmt.Sprintf("nats-%d", i+1)
			ready = "/healthz" // the node has caught up with the others
			cluster = fmt.Sprintf("cluster { name: postrider, listen: %q, routes: [ %s ] }", natsAddress(block+natsRoute), strings.Join(routes, ", "))
		}
		config := fmt.Sprintf(`
server_name: %s
listen: %q
http: %q
max_payload: 4MB
jetstream { store_dir: %q, max_file_store: 64GB, sync_interval: %s }
%s
%s`, name, natsAddress(block), natsAddress(block+natsMonitor), c.opts.NATSStore(name), c.opts.NATSSync, cluster, c.opts.NATSConfig)
		path := filepath.Join(c.opts.Dir, name+".conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return err
		}
		c.add(&Process{
			Name: name, Service: "nats", Path: filepath.Join(c.opts.Bin, "nats-server"), Args: []string{"-c", path},
			ready: httpReady("http://" + natsAddress(block+natsMonitor) + ready),
		})
	}
	return nil
}

// Offsets of a NATS server's ports in its block.
const (
	natsMonitor = 1
	natsRoute   = 2
)

func natsAddress(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// natsURL is where a process reaches the NATS servers.
func (c *Cluster) natsURL(process string) (string, error) {
	var list []string
	for _, address := range c.nats {
		if c.opts.NATSThrough != nil {
			var err error
			if address, err = c.opts.NATSThrough(process, address); err != nil {
				return "", err
			}
		}
		list = append(list, "nats://"+address)
	}
	return strings.Join(list, ","), nil
}

// Bin is the folder of the binaries.
func (c *Cluster) Bin() string { return c.opts.Bin }

// Dir is the folder of data and logs.
func (c *Cluster) Dir() string { return c.opts.Dir }

// NATSStore is the folder of what a NATS server stores.
func (c *Cluster) NATSStore(p *Process) string { return c.opts.NATSStore(p.Name) }

// AddRedis adds a Redis server that keeps nothing unless it is asked to save; when it is started
// again it has what was saved last, or nothing. The caller starts it; the first is the cluster's
// own. The address is its host:port.
func (c *Cluster) AddRedis(name string, args ...string) (p *Process, address string, err error) {
	block, err := c.block()
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Join(c.opts.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	address = fmt.Sprintf("127.0.0.1:%d", block)
	p = &Process{
		Name: name, Service: "redis", Path: "redis-server",
		Args: append([]string{
			"--port", strconv.Itoa(block), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no",
			"--maxmemory-policy", "noeviction",
		}, args...),
		ready: redisReady(address),
	}
	c.add(p)
	return p, address, nil
}

// addServices gives each replica of each service a block of ports and its environment.
func (c *Cluster) addServices() error {
	for _, service := range Services {
		replicas := c.opts.Replicas
		if c.opts.ReplicasOf != nil {
			replicas = cmp.Or(c.opts.ReplicasOf(service), replicas)
		}
		for i := range replicas {
			block, err := c.block()
			if err != nil {
				return err
			}
			c.add(&Process{Name: fmt.Sprintf("%s-%d", service, i+1), Service: service, Path: filepath.Join(c.opts.Bin, service), port: block})
		}
	}
	for _, service := range Services {
		for _, p := range c.Of(service) {
			url, err := c.natsURL(p.Name)
			if err != nil {
				return err
			}
			p.Env = c.environment(p, url)
			if c.opts.Adjust != nil {
				if err := c.opts.Adjust(c, p); err != nil {
					return err
				}
			}
			p.ready = httpReady(fmt.Sprintf("http://127.0.0.1:%d/readyz", p.port+metricsPort))
		}
	}
	return nil
}

// Offsets of a service's ports in its block.
const (
	grpcPort     = 0
	httpPort     = 1
	healthPort   = 2
	metricsPort  = 3
	internalPort = 4
)

func (c *Cluster) environment(p *Process, natsURL string) []string {
	at := func(offset int) string { return "127.0.0.1:" + strconv.Itoa(p.port+offset) }
	env := map[string]string{
		"POSTRIDER_INSTANCE":         p.Name,
		"POSTRIDER_NATS_URL":         natsURL,
		"POSTRIDER_STREAMS_REPLICAS": strconv.Itoa(c.opts.NATSNodes),
		"POSTRIDER_STREAMS_SHARDS":   strconv.Itoa(c.opts.Shards),
		"POSTRIDER_GRPC_LISTEN":      at(grpcPort),
		"POSTRIDER_HEALTH_LISTEN":    at(healthPort),
		"POSTRIDER_METRICS_LISTEN":   at(metricsPort),
	}
	set := func(services, name, value string) {
		if slices.Contains(strings.Fields(services), p.Service) {
			env["POSTRIDER_"+name] = value
		}
	}
	set("ingest api", "HTTP_LISTEN", at(httpPort))
	set("ingest scheduler", "REDIS_URL", c.RedisURL)
	set("ingest api", "ADMIN_KEY", c.AdminKey)
	set("dispatcher api", "ENCRYPTION_KEY", c.key)
	set("dispatcher router api", "SCHEDULER_TARGET", c.target("scheduler", grpcPort))
	set("api", "ROUTER_TARGET", c.target("router", grpcPort))
	set("api", "DISPATCHER_TARGET", c.target("dispatcher", grpcPort))
	set("dispatcher", "API_TARGET", c.target("api", internalPort))
	set("api", "INTERNAL_GRPC_LISTEN", at(internalPort))
	set("api", "API_LOG_FILE", filepath.Join(c.opts.Dir, p.Name+".db"))
	set("api", "API_RECORDER", "recorder-"+p.Name)
	set("api", "API_ALLOW_HTTP", "true")
	set("dispatcher", "DISPATCHER_EGRESS_ALLOW_NETWORKS", "127.0.0.0/8,::1/128")
	maps.Copy(env, c.opts.Env)
	if c.opts.EnvOf != nil {
		maps.Copy(env, c.opts.EnvOf(p.Service))
	}
	list := os.Environ()
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// target names all replicas of a service for a gRPC client.
func (c *Cluster) target(service string, offset int) string {
	return "static:///" + strings.Join(c.addresses(service, offset), ",")
}

func (c *Cluster) addresses(service string, offset int) []string {
	var list []string
	for _, p := range c.Of(service) {
		list = append(list, "127.0.0.1:"+strconv.Itoa(p.port+offset))
	}
	return list
}

// IngestTarget is all ingest replicas, for a gRPC client.
func (c *Cluster) IngestTarget() string { return c.target("ingest", grpcPort) }

// IngestURLs are the base URLs of ingest's HTTP servers.
func (c *Cluster) IngestURLs() []string { return urls(c.addresses("ingest", httpPort)) }

// APITarget is all api replicas, for a gRPC client.
func (c *Cluster) APITarget() string { return c.target("api", grpcPort) }

// APIURLs are the base URLs of the REST servers.
func (c *Cluster) APIURLs() []string { return urls(c.addresses("api", httpPort)) }

// GRPCTarget is one replica of a service, for a gRPC client.
func (c *Cluster) GRPCTarget(p *Process) string {
	return "static:///127.0.0.1:" + strconv.Itoa(p.port+grpcPort)
}

// MetricsURL is the metrics page of a process.
func (c *Cluster) MetricsURL(p *Process) string {
	return "http://127.0.0.1:" + strconv.Itoa(p.port+metricsPort) + "/metrics"
}

func urls(addresses []string) []string {
	for i, a := range addresses {
		addresses[i] = "http://" + a
	}
	return addresses
}

// block is the first port of the next process.
func (c *Cluster) block() (int, error) {
	if c.opts.BasePort != 0 {
		first := c.nextPort
		c.nextPort += blockSize
		return first, nil
	}
	b, err := ports.Reserve()
	if err != nil {
		return 0, err
	}
	c.reserved = append(c.reserved, b)
	return b.First, nil
}

func (c *Cluster) add(p *Process) {
	p.log = filepath.Join(c.opts.Dir, p.Name+".log")
	c.processes = append(c.processes, p)
}

// Of lists the replicas of a service; "nats" and "redis" are services too.
func (c *Cluster) Of(service string) []*Process {
	var list []*Process
	for _, p := range c.processes {
		if p.Service == service {
			list = append(list, p)
		}
	}
	return list
}

// Process is the process of a name, or nil.
func (c *Cluster) Process(name string) *Process {
	for _, p := range c.processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Processes lists everything, in the order of the start.
func (c *Cluster) Processes() []*Process { return c.processes }

// stopGrace is how long a stop may take before processes are killed.
const stopGrace = 20 * time.Second

// Stop asks every process to stop, services first, and ends those that do not within 20 s.
func (c *Cluster) Stop() error {
	var errs error
	deadline := time.Now().Add(stopGrace)
	var services, stores []*Process
	for _, p := range slices.Backward(c.processes) {
		if p.Service == "nats" || p.Service == "redis" {
			stores = append(stores, p)
		} else {
			services = append(services, p)
		}
	}
	for _, group := range [][]*Process{services, stores} {
		for _, p := range group {
			p.Terminate()
		}
		for _, p := range group {
			errs = errors.Join(errs, p.waitOrKill(time.Until(deadline)))
		}
	}
	for _, b := range c.reserved {
		b.Release()
	}
	c.reserved = nil
	return errs
}
