// Package bucket is what the owners of KV buckets share: making a bucket, reading it from its
// leader, writing by expected revision, following it. It owns no bucket; each has an owner that
// alone knows its keys and values.
//
// A bucket is a stream KV_<name> with one message for each key, as ADR-8 of NATS describes, so the
// nats command line can look into it. Two things differ. Reads are never "direct": only the
// leader answers, so a process reads what any process wrote. And following is done here, because a
// KV watcher was seen 18 s late after a restart of the server.
//
// What it may lose: nothing that was acknowledged. A write whose acknowledgement did not come
// within the budget is ErrUnknown, never done and never refused.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

// Errors of buckets.
var (
	// ErrNotFound says that the key has no value, as answered by the bucket's leader.
	ErrNotFound = errors.New("key not found")
	// ErrConflict says that the key is not at the expected revision. Nothing was written.
	ErrConflict = errors.New("key is at another revision")
	// ErrUnknown says that a write was not acknowledged in time: it may have happened.
	ErrUnknown = errors.New("outcome of the write is unknown")
	// ErrUnproven says that an answer came from a server that may not be the leader any more.
	ErrUnproven = errors.New("answer does not prove itself to be the leader's")
)

// AnyRevision as an expected revision means that any will do.
const AnyRevision = ^uint64(0)

// Spec is how a bucket is made.
type Spec struct {
	// Name of the bucket.
	Name string
	// Description for people.
	Description string
	// TTL is how long a value lives after its last write; 0 means for ever.
	TTL time.Duration
	// ExpiryMarkers makes the server write a marker, which lives as long, when a TTL ends, so that
	// followers learn of it; 0 means none.
	ExpiryMarkers time.Duration
}

// Bucket is one KV bucket. It is safe for concurrent use.
type Bucket struct {
	name   string
	prefix string // of subjects
	js     jetstream.JetStream
	nc     *nats.Conn
	stream jetstream.Stream
	made   jetstream.StreamConfig
	cfg    stream.Config
}

// Ensure makes the bucket, or brings it to the spec. It waits for a server that is not ready, and
// changes nothing that is as it should be: each process that starts ensures every bucket.
func Ensure(ctx context.Context, c *stream.Client, spec Spec) (*Bucket, error) {
	js := c.JetStream()
	made := config(spec, c.Config().Replicas)
	s, err := c.OpenStream(ctx, made)
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", spec.Name, err)
	}
	return &Bucket{
		name: spec.Name, prefix: "$KV." + spec.Name + ".",
		js: js, nc: js.Conn(), stream: s, made: made, cfg: c.Config(),
	}, nil
}

// Inspect says how a bucket stands against its spec. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client, spec Spec) (stream.Report, error) {
	return c.InspectStream(ctx, config(spec, c.Config().Replicas))
}

// Again makes the bucket again if it is gone, for owners that can bear the loss of what it held.
func (b *Bucket) Again(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.PublishTimeout)
	defer cancel()
	if _, err := b.js.CreateOrUpdateStream(ctx, b.made); err != nil {
		return fmt.Errorf("ensure bucket %s: %w", b.name, err)
	}
	return nil
}

func config(spec Spec, replicas int) jetstream.StreamConfig {
	window := 2 * time.Minute // of message ids, which make a repeated write one
	if spec.TTL > 0 {
		window = min(window, spec.TTL)
	}
	return jetstream.StreamConfig{
		Name:                   "KV_" + spec.Name,
		Description:            spec.Description,
		Subjects:               []string{"$KV." + spec.Name + ".>"},
		MaxMsgsPerSubject:      1,
		MaxMsgs:                -1,
		MaxBytes:               -1,
		MaxMsgSize:             -1,
		MaxConsumers:           -1,
		MaxAge:                 spec.TTL,
		Storage:                jetstream.FileStorage,
		Replicas:               replicas,
		Duplicates:             window,
		Discard:                jetstream.DiscardNew,
		AllowRollup:            true,
		DenyDelete:             true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: spec.ExpiryMarkers,
	}
}

// Name is the bucket's name.
func (b *Bucket) Name() string { return b.name }

// Entry is what a key holds, or held.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	// Time at which it was written, by the server's clock.
	Time time.Time
	// Deleted says that this is the marker of a deletion or of an expiry.
	Deleted bool
	// Expired says that the marker was written because a TTL ended.
	Expired bool
}

// Headers of KV messages (NATS ADR-8, ADR-43).
const (
	operationHeader = "KV-Operation"
	operationPurge  = "PURGE"
	rollupHeader    = "Nats-Rollup"
	rollupSubject   = "sub"
	ttlHeader       = "Nats-TTL"
	markerHeader    = "Nats-Marker-Reason"
)

// entry reads a message of the bucket.
func (b *Bucket) entry(subject string, header nats.Header, data []byte, revision uint64, at time.Time) Entry {
	e := Entry{Key: strings.TrimPrefix(subject, b.prefix), Value: data, Revision: revision, Time: at}
	if len(header) > 0 {
		reason := header.Get(markerHeader)
		e.Expired = reason != ""
		e.Deleted = e.Expired || header.Get(operationHeader) != ""
	}
	return e
}
