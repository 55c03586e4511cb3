package stream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Report is how a stream, or one of its consumers, stands against what its owner wants.
type Report struct {
	Stream   string
	Consumer string // durable name; empty: the report is of the stream itself
	Missing  bool   // all below is zero then
	// Differs says each setting that is not as wanted: "MaxAge is 1h0m0s, not 168h0m0s".
	Differs []string
	// Replicas is how many copies there are meant to be, InStep how many are up to date.
	Replicas, InStep int
	// Bytes are stored, of MaxBytes; -1: no limit.
	Bytes, MaxBytes int64
	// Pending is how many messages a consumer has not been given.
	Pending uint64
	// Skew is how far the server's clock is ahead of ours, give or take Uncertain. Only a stream's
	// report has it.
	Skew, Uncertain time.Duration
}

// Server is the NATS server, as far as a client is told of it.
type Server struct {
	Name, Version string
	// Used are the bytes that the NATS account's streams take on disk, of MaxStore; -1: no limit.
	Used, MaxStore int64
}

// InspectServer asks the server about its JetStream. It changes nothing, and fails with an error that
// wraps jetstream.ErrJetStreamNotEnabled where there is none.
func (c *Client) InspectServer(ctx context.Context) (Server, error) {
	info, err := c.js.AccountInfo(ctx)
	if err != nil {
		return Server{}, fmt.Errorf("ask for JetStream: %w", err)
	}
	return Server{
		Name: c.nc.ConnectedServerName(), Version: c.nc.ConnectedServerVersion(),
		Used: int64(info.Store), MaxStore: orUnlimited(info.Limits.MaxStore), //nolint:gosec // bytes on a disk
	}, nil
}

// InspectStream compares a stream with the configuration that EnsureStream would give it. It is for
// the owner of the stream, and changes nothing.
func (c *Client) InspectStream(ctx context.Context, cfg jetstream.StreamConfig) (Report, error) {
	r := Report{Stream: cfg.Name}
	asked := time.Now()
	s, err := c.js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		r.Missing = true
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("inspect stream %s: %w", cfg.Name, err)
	}
	info := s.CachedInfo()
	if took := time.Since(asked); !info.TimeStamp.IsZero() {
		r.Skew, r.Uncertain = info.TimeStamp.Sub(asked.Add(took/2)), took/2
	}
	want := wanted(info.Config, c.complete(cfg))
	want.Storage = cfg.Storage
	r.Differs = differences(info.Config, want)
	r.Replicas, r.InStep = info.Config.Replicas, inStep(info.Cluster)
	r.Bytes, r.MaxBytes = int64(info.State.Bytes), info.Config.MaxBytes //nolint:gosec // bytes on a disk
	return r, nil
}

// InspectConsumer is InspectStream for a durable.
func (c *Client) InspectConsumer(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (Report, error) {
	r := Report{Stream: stream, Consumer: cfg.Durable}
	con, err := c.js.Consumer(ctx, stream, cfg.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		r.Missing = true
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("inspect consumer %s of %s: %w", cfg.Durable, stream, err)
	}
	info := con.CachedInfo()
	want := info.Config // what the server filled in stays
	want.AckPolicy, want.AckWait, want.MaxAckPending = cfg.AckPolicy, cfg.AckWait, cfg.MaxAckPending
	want.MaxDeliver, want.FilterSubject, want.InactiveThreshold = cfg.MaxDeliver, cfg.FilterSubject, cfg.InactiveThreshold
	want.MemoryStorage = cfg.MemoryStorage
	r.Differs = differences(info.Config, want)
	r.Replicas, r.InStep, r.Pending = info.Config.Replicas, inStep(info.Cluster), info.NumPending
	return r, nil
}

// inStep counts the copies that are up to date; one server alone has no cluster.
func inStep(cluster *jetstream.ClusterInfo) int {
	if cluster == nil {
		return 1
	}
	n := 0
	if cluster.Leader != "" {
		n++
	}
	for _, p := range cluster.Replicas {
		if p.Current && !p.Offline {
			n++
		}
	}
	return n
}

// differences names the fields of a configuration that are not as wanted.
func differences[T any](have, want T) []string {
	var out []string
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range h.NumField() {
		if a, b := h.Field(i).Interface(), w.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			out = append(out, fmt.Sprintf("%s is %v, not %v", h.Type().Field(i).Name, a, b))
		}
	}
	return out
}
