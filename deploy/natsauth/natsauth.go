// Package natsauth says what each service may do on NATS, and writes it as the configuration of a
// NATS server. It follows the owner packages in pkg/stream and pkg/config: a service may make and
// bring to its configuration what its main ensures, so that services start in any order; it may
// read what it works on, publish only what it is the author of, and remove only where its owner
// package does. Nobody but the admin may delete a stream.
package natsauth

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// User is one service, known to the server by the DNS name in its certificate.
type User struct {
	Name      string
	Publish   []string
	Subscribe []string
}

// The buckets of the configuration, which every service ensures.
var configuration = []string{
	"accounts", "announced", "cancellations", "counters", "event_types", "failing", "idempotency", "jobs", "keys", "members", "names",
	"notices", "webhooks",
}

// Size is how much a deployment may have.
type Size struct {
	Shards   int // of deliveries and retries
	Segments int // of events
}

// grants collects the subjects of one service.
type grants struct {
	name    string
	size    Size
	publish []string
	listen  []string
}

// service returns the grants that all services have: the streams behind what they ensure, their
// own replies, their place among the members, and the numbers of shards and segments.
func service(name string, size Size) *grants {
	g := &grants{name: name, size: size, listen: []string{"_INBOX." + name + ".>"}}
	// Names, configurations and counts, no message. An account's limits are read with the former.
	g.may("$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.*", "config.applied.>")
	for _, bucket := range configuration {
		g.ensure("KV_" + bucket)
	}
	g.ensure("KV_topology", "KV_checkpoints").read("KV_topology", "KV_checkpoints").follow("topology")
	// Who is first writes down how many shards and segments there are, and which incarnation of EVENTS this is. A
	// scheduler writes down that a change of their number is finished.
	return g.write("members", "topology", "checkpoints").purge("KV_members")
}

func (g *grants) may(subjects ...string) *grants {
	g.publish = append(g.publish, subjects...)
	return g
}

// each expands a name that ends in _ to one for each shard, and EVENTS to one for each segment.
func (g *grants) each(streams []string) []string {
	var out []string
	for _, s := range streams {
		switch {
		case s == "EVENTS":
			out = append(out, numbered(s, g.size.Segments)...)
		case strings.HasSuffix(s, "_"):
			for shard := range g.size.Shards {
				out = append(out, s+strconv.Itoa(shard))
			}
		default:
			out = append(out, s)
		}
	}
	return out
}

// numbered is a name for each segment, of which the first has no number.
func numbered(name string, segments int) []string {
	out := []string{name}
	for n := 1; n < segments; n++ {
		out = append(out, name+"_"+strconv.Itoa(n))
	}
	return out
}

// accept is to publish events, in every segment.
func (g *grants) accept() *grants {
	for _, s := range numbered("events", g.size.Segments) {
		g.may(s + ".>")
	}
	return g
}

func (g *grants) ensure(streams ...string) *grants {
	for _, s := range g.each(streams) {
		g.may("$JS.API.STREAM.CREATE."+s, "$JS.API.STREAM.UPDATE."+s)
	}
	return g
}

func (g *grants) read(streams ...string) *grants {
	for _, s := range g.each(streams) {
		g.may("$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>", "$JS.API.STREAM.MSG.GET."+s)
	}
	return g
}

// follow is reading a bucket from its beginning on, over a consumer without a name.
func (g *grants) follow(buckets ...string) *grants {
	for _, b := range buckets {
		s := "KV_" + b
		g.may("$JS.API.CONSUMER.CREATE."+s+".>", "$JS.API.CONSUMER.MSG.NEXT."+s+".*", "$JS.API.CONSUMER.DELETE."+s+".*")
	}
	return g
}

// consume is work on a durable consumer; filtered ones name their subject in the request.
func (g *grants) consume(durable string, streams ...string) *grants {
	for _, s := range g.each(streams) {
		to := s + "." + durable
		g.may("$JS.API.CONSUMER.CREATE."+to, "$JS.API.CONSUMER.CREATE."+to+".>", "$JS.API.CONSUMER.MSG.NEXT."+to, "$JS.ACK."+to+".>")
	}
	return g
}

// remake is to make a durable consumer anew.
func (g *grants) remake(durable string, streams ...string) *grants {
	for _, s := range g.each(streams) {
		g.may("$JS.API.CONSUMER.DELETE." + s + "." + durable)
	}
	return g
}

func (g *grants) write(buckets ...string) *grants {
	for _, b := range buckets {
		g.may("$KV." + b + ".>")
	}
	return g
}

func (g *grants) purge(streams ...string) *grants {
	for _, s := range g.each(streams) {
		g.may("$JS.API.STREAM.PURGE." + s)
	}
	return g
}

func (g *grants) remove(streams ...string) *grants {
	for _, s := range g.each(streams) {
		g.may("$JS.API.STREAM.MSG.DELETE." + s)
	}
	return g
}

func (g *grants) hear(subjects ...string) *grants {
	g.listen = append(g.listen, subjects...)
	return g
}

func (g *grants) user() User {
	slices.Sort(g.publish)
	return User{Name: g.name, Publish: slices.Compact(g.publish), Subscribe: g.listen}
}

// Users are the services, and the admin, who may do everything.
func Users(size Size) []User {
	ingest := service("ingest", size).
		ensure("EVENTS").read("EVENTS", "KV_accounts", "KV_keys", "KV_event_types").
		follow("accounts", "event_types", "keys").
		accept().hear("pace.>")
	router := service("router", size).
		ensure("EVENTS", "DELIVERIES_", "RETRIES_", "JOURNAL").
		read("EVENTS", "DELIVERIES_", "RETRIES_", "JOURNAL").
		follow("webhooks", "accounts").
		consume("router", "EVENTS").
		may("deliveries.>", "retries.>", "journal.>", "pace.router.*").
		purge("EVENTS") // below what is routed, when the stream is nearly full
	dispatcher := service("dispatcher", size).
		ensure("EVENTS", "DELIVERIES_", "RETRIES_", "JOURNAL", "DEADLETTERS", "KV_shards").
		read("EVENTS", "DELIVERIES_", "RETRIES_", "JOURNAL", "DEADLETTERS", "KV_shards", "KV_cancellations", "KV_webhooks").
		follow("accounts", "cancellations", "webhooks", "shards").
		consume("dispatcher", "DELIVERIES_", "RETRIES_").remake("dispatcher", "DELIVERIES_", "RETRIES_").
		write("shards").purge("KV_shards").
		may("deliveries.>", "retries.>", "journal.>", "deadletters.>"). // of the first, what is on another shard's stream
		may("pace.dispatcher.*").
		may("due.>", "anchors.>").                       // it releases what has the turn in a line
		remove("DELIVERIES_", "RETRIES_", "DEADLETTERS") // of the first, what it acknowledged and a full disk kept
	scheduler := service("scheduler", size).
		ensure("EVENTS", "RETRIES_", "JOURNAL").
		read("EVENTS", "RETRIES_", "JOURNAL", "KV_cancellations", "KV_webhooks").
		follow("cancellations", "webhooks").
		write("cancellations").
		may("retries.>", "due.>", "anchors.>", "journal.>").
		purge("RETRIES_").remove("RETRIES_").
		hear("config.applied.>")
	api := service("api", size).
		ensure("EVENTS", "DELIVERIES_", "JOURNAL", "DEADLETTERS", "AUDIT").
		read("EVENTS", "DELIVERIES_", "RETRIES_", "JOURNAL", "DEADLETTERS", "AUDIT"). // reconcile looks into all
		write(configuration...).
		accept().may("deliveries.>", "journal.>", "audit.>").
		remove("EVENTS", "JOURNAL", "DEADLETTERS"). // what is to be forgotten
		// One durable for each delivery log, named after the log; it goes with the log.
		may("$JS.API.CONSUMER.CREATE.JOURNAL.>", "$JS.API.CONSUMER.MSG.NEXT.JOURNAL.*", "$JS.ACK.JOURNAL.>").
		may("$JS.API.CONSUMER.DELETE.JOURNAL.*").
		hear("config.applied.>")
	for _, b := range configuration {
		api.read("KV_" + b).follow(b).purge("KV_" + b)
	}
	users := []User{{Name: "admin", Publish: []string{">"}, Subscribe: []string{">"}}}
	for _, g := range []*grants{ingest, router, dispatcher, scheduler, api} {
		users = append(users, g.user())
	}
	return users
}

// Write writes the users as a part of a server's configuration, to be included in its
// authorization block.
func Write(w io.Writer, size Size) error {
	var out strings.Builder
	fmt.Fprintf(&out, `# Written by "make nats/permissions" for up to %d shards and %d segments; do not edit. Users are the
# DNS names of certificates, so the server needs verify_and_map. See docs/kubernetes.md.
users = [
`, size.Shards, size.Segments)
	for _, u := range Users(size) {
		fmt.Fprintf(&out, "  {\n    user: %s\n    permissions {\n", u.Name)
		list(&out, "publish", u.Publish)
		list(&out, "subscribe", u.Subscribe)
		out.WriteString("    }\n  }\n")
	}
	out.WriteString("]\n")
	_, err := io.WriteString(w, out.String())
	return err
}

func list(out *strings.Builder, name string, subjects []string) {
	fmt.Fprintf(out, "      %s { allow: [\n", name)
	for _, s := range subjects {
		fmt.Fprintf(out, "        %q\n", s)
	}
	out.WriteString("      ] }\n")
}
