package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/natsconn"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/auditstream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/deliverystream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/pkg/stream/journal"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/pkg/stream/shardlease"
	"github.com/postrider/postrider/pkg/stream/topology"
)

// mendRights is for what is not answered: the server answers nothing that a user may not ask.
const mendRights = "give the credentials of a NATS user who may ask for every stream, as for a backup; the services' own users may not"

// connectPatience bounds a connect: a service waits longer for NATS than somebody who asks about it.
const connectPatience = 3 * time.Second

// nats looks at the server and at everything that Postrider has there. consumer is the journal's consumer
// that fills the delivery log; empty if that could not be told.
func (r *Report) nats(ctx context.Context, cfg *Config, consumer string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	to := cfg.Process.NATS
	to.ConnectTimeout = min(to.ConnectTimeout, connectPatience)
	nc, err := natsconn.Connect(ctx, to, "postrider/doctor", quiet)
	if err != nil {
		mend := "start NATS, or set POSTRIDER_NATS_URL to where it is"
		if errors.Is(err, nats.ErrAuthorization) {
			mend = "give the user's credentials with POSTRIDER_NATS_CREDS_FILE, POSTRIDER_NATS_NKEY_FILE or in POSTRIDER_NATS_URL"
		}
		r.fail("nats", mend, "%v", err)
		return
	}
	defer nc.Close()
	c, err := stream.New(nc, cfg.Process.Streams)
	if err != nil {
		r.fail("nats", "correct the options of the streams", "%v", err)
		return
	}
	defer c.Close()
	if !r.server(ctx, c) {
		return
	}
	if limit := nc.MaxPayload(); int64(cfg.Events.MaxMessageBytes) > limit {
		r.fail("nats", "raise max_payload of the NATS server", "events may have %d bytes, but the server takes messages of %d only", cfg.Events.MaxMessageBytes, limit)
	}
	if !r.shards(ctx, c) || !r.segments(ctx, c) {
		return
	}
	all, err := inspect(ctx, c, cfg)
	if err != nil {
		r.fail("streams", mendRights, "%v", err)
		return
	}
	r.streams(c, all)
	r.lag(ctx, c, consumer)
}

// server looks at JetStream as a whole, and reports whether there is one.
func (r *Report) server(ctx context.Context, c *stream.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	s, err := c.InspectServer(ctx)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		r.fail("nats", "turn JetStream on in the NATS server, and for the account", "the server at %s has no JetStream", c.Conn().ConnectedAddr())
		return false
	case err != nil:
		r.fail("nats", mendRights, "%v", err)
		return false
	}
	if older(s.Version, 2, 14) {
		r.fail("nats", "use NATS 2.14 or newer, which can release a retry in one step", "the server is NATS %s", s.Version)
		return false
	}
	r.ok("nats", "connected to %s, NATS %s with JetStream", s.Name, s.Version)
	r.room("nats storage", "all streams", s.Used, s.MaxStore, "give JetStream more storage (max_file_store, or the limits of the NATS account)")
	return true
}

// room judges what is stored against its limit.
func (r *Report) room(check, of string, used, limit int64, mend string) {
	const warnAt, failAt = 0.8, 0.95
	if limit <= 0 {
		if of == "all streams" {
			r.ok(check, "%s take %s; the NATS account has no limit, and a server tells nobody its own", of, size(used))
		}
		return
	}
	what := fmt.Sprintf("%s take %s of %s", of, size(used), size(limit))
	switch share := float64(used) / float64(limit); {
	case share >= failAt:
		r.fail(check, mend, "%s", what)
	case share >= warnAt:
		r.warn(check, mend, "%s", what)
	case of == "all streams":
		r.ok(check, "%s", what)
	}
}

// size is a number of bytes for people.
func size(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// shards looks at the number of shards, on which the names of streams depend.
func (r *Report) shards(ctx context.Context, c *stream.Client) bool {
	l, err := topology.Inspect(ctx, c)
	switch want := c.Config().Shards; {
	case errors.Is(err, topology.ErrNone):
		r.warn("shards", "start a service: it makes everything that is missing", "no number of shards is stored yet")
		return true
	case err != nil:
		r.fail("shards", mendRights, "%v", err)
		return false
	case l.Before != 0:
		r.warn("shards", "wait until the schedulers have moved what waits: postrider shards shows how much is left", "their number is being changed from %d to %d", l.Before, l.Shards)
	case l.Shards != want:
		r.warn("shards", fmt.Sprintf("set POSTRIDER_STREAMS_SHARDS to %d, or change them with postrider shards set %d", l.Shards, want), "there are %d shards, but a new system would get %d", l.Shards, want)
	default:
		r.ok("shards", "%d, as configured", l.Shards)
	}
	c.SetLayout(l)
	return true
}

// segments compares the number of segments of EVENTS, on which the names of streams depend too.
func (r *Report) segments(ctx context.Context, c *stream.Client) bool {
	n, err := topology.InspectSegments(ctx, c)
	switch want := c.Config().Segments; {
	case err != nil:
		r.fail("segments", mendRights, "%v", err)
		return false
	case n != 0 && n != want:
		r.fail("segments", fmt.Sprintf("set POSTRIDER_STREAMS_SEGMENTS to %d", n), "events are stored in %d segments, but %d are configured", n, want)
		return false
	case n == 0:
		r.warn("segments", "start a service: it makes everything that is missing", "no number of segments is stored yet")
	default:
		r.ok("segments", "%d, as configured", n)
	}
	return true
}

// inspect asks every owner how its streams and buckets stand.
func inspect(ctx context.Context, c *stream.Client, cfg *Config) ([]stream.Report, error) {
	var all []stream.Report
	var errs []error
	add := func(reports []stream.Report, err error) { all, errs = append(all, reports...), append(errs, err) }
	one := func(report stream.Report, err error) { add([]stream.Report{report}, err) }
	add(eventstream.Inspect(ctx, c, cfg.Events))
	add(deliverystream.Inspect(ctx, c, cfg.Deliveries))
	add(retrystream.Inspect(ctx, c))
	one(journal.Inspect(ctx, c, cfg.Journal))
	one(deadletterstream.Inspect(ctx, c, cfg.DeadLetters))
	one(auditstream.Inspect(ctx, c, cfg.API.Audit))
	one(shardlease.Inspect(ctx, c))
	add(config.Inspect(ctx, c))
	return all, errors.Join(errs...)
}

// streams judges what the owners say. The clock is that of the stream whose answer took least.
func (r *Report) streams(c *stream.Client, all []stream.Report) {
	sound := 0
	var best *stream.Report
	for i, s := range all {
		name := s.Stream
		if s.Consumer != "" {
			name = "consumer " + s.Consumer + " of " + s.Stream
		}
		before := len(r.Findings)
		switch {
		case s.Missing && s.Consumer != "":
			r.warn("streams", "start the routers and the dispatchers: they make it", "%s is missing", name)
		case s.Missing:
			r.fail("streams", "start a service, which makes it; if it was there before, restore a backup first (docs/operations.md)", "%s is missing", name)
		case len(s.Differs) > 0:
			r.fail("streams", "give all services the same options and restart one: it brings the stream to them, if the server lets it", "%s is not as configured: %s", name, strings.Join(s.Differs, "; "))
		}
		if !s.Missing && s.InStep < s.Replicas {
			r.warn("replicas", "bring the missing NATS servers back, or wait until they have caught up", "%s has %d of %d copies up to date", name, s.InStep, s.Replicas)
		}
		if !s.Missing && s.Consumer == "" {
			r.room("streams", name, s.Bytes, s.MaxBytes, "find out what does not finish (docs/operations.md), or raise the stream's max-bytes")
			if best == nil || s.Uncertain < best.Uncertain {
				best = &all[i]
			}
		}
		if len(r.Findings) == before {
			sound++
		}
	}
	if sound > 0 {
		r.ok("streams", "%d of %d streams, buckets and consumers are as configured, with %d copies each", sound, len(all), c.Config().Replicas)
	}
	if best != nil {
		r.clock("NATS", best.Skew, best.Uncertain)
	}
}

// lagWarning is how many messages of the journal may wait to be recorded.
const lagWarning = 10_000

// lag looks at how far behind the delivery log is.
func (r *Report) lag(ctx context.Context, c *stream.Client, consumer string) {
	if consumer == "" {
		return
	}
	s, err := journal.InspectConsumer(ctx, c, consumer)
	switch {
	case err != nil:
		r.fail("delivery log", "look at the log of the NATS server", "%v", err)
	case s.Missing:
		r.warn("delivery log", "start an api: it records the journal", "nothing records the journal into this log (no consumer %s)", consumer)
	case s.Pending > lagWarning:
		r.warn("delivery log", "look at the api's log and at the database: it cannot keep up", "%d messages of the journal wait to be recorded", s.Pending)
	default:
		r.ok("delivery log", "%d messages of the journal wait to be recorded", s.Pending)
	}
}
