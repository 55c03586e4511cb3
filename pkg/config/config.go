// Package config owns the buckets of the configuration: `accounts`, `webhooks`, `event_types`,
// `keys`, `names` (what must be unique), `counters`, `cancellations`, `idempotency` (answers to
// requests that may be repeated), `failing` (webhooks all of whose attempts fail), `notices`
// (operational events that are about to be published), `announced` (dead letters that accounts were
// told of), `jobs` (replays and redrives) and `members` (who works on it). It alone knows their keys and
// codecs. Store writes and reads them, a Mirror keeps a
// process's view of them, and a Barrier lets a writer wait until nobody works on what it replaced.
//
// The first six may not be lost: they are what the operator and the accounts configured. A lost
// mark in `cancellations` lets a cancelled delivery be attempted; a lost record of `idempotency`
// lets a request that is repeated be done again; of `failing`, lets a webhook fail for longer before
// it is disabled; of `notices`, loses a notice; of `announced`, repeats one; of
// `jobs`, ends a replay where it is. `members` may be lost at any time: its members write it again, and until then they do not work.
//
// # The barrier
//
// After Barrier.Confirm has answered for a write, nobody begins work on an older state. That holds
// because of a lease that every reader measures for itself, not because of the confirmations:
//
//  1. A mirror is fresh only if, within the last second (Lease) by its own monotonic clock, it
//     began to ask the bucket's leader for the last revision, and its handlers have been given
//     everything up to the revision in the answer. Workers begin work only while it is fresh.
//  2. A question that began after a write was acknowledged is answered with that write's revision
//     or a later one. So one second after the acknowledgement every fresh mirror has begun its
//     question after it, and works on that write or a later state. Confirm waits for that second,
//     and for leaseMargin, the time between asking Fresh and doing the thing.
//  3. Confirmations only make it quicker: if every mirror that could be fresh has announced the
//     revision, there is nothing to wait for. A mirror that could be fresh is registered in
//     `members`, because it registers, and has that acknowledged, before it begins its first
//     question. The writer reads `members` from its leader after its write was acknowledged, so a
//     mirror that it does not see there either has not begun a question yet, or began its first one
//     after the write, and knows the write before it is fresh.
//  4. A registration counts for its mirror only for memberValid after it was begun to be written,
//     and nobody removes it before memberDead after it was seen, which was later. Nothing but the
//     mirror itself and a Barrier removes it; no TTL does, since the server's clock may jump.
//
// No two clocks are compared: a clock enters only as a rate, of which a second's difference in ten
// would have to be wrong before it matters. What the lease cannot see is a process that is stopped
// between asking Fresh and doing the thing, and a machine that is suspended, whose monotonic clock
// may stand still with it. What is left of a partition inside the NATS cluster is told in
// pkg/stream/bucket (see its Position).
package config

import (
	"time"

	"github.com/postrider/postrider/pkg/fault"
)

// Names of the buckets that mirrors may watch, as Barrier.Confirm and Mirror.Revision take them.
const (
	BucketAccounts      = "accounts"
	BucketWebhooks      = "webhooks"
	BucketEventTypes    = "event_types"
	BucketKeys          = "keys"
	BucketCancellations = "cancellations"
)

// The buckets that nobody mirrors.
const (
	bucketNames    = "names"
	bucketCounters = "counters"
	bucketMembers  = "members"

	bucketIdempotency = "idempotency"
	bucketJobs        = "jobs"
	bucketFailing     = "failing"
	bucketNotices     = "notices"
	bucketAnnounced   = "announced"
)

// Errors that callers act on. They cross gRPC as they are.
var (
	// ErrNotFound says that there is no such record.
	ErrNotFound = fault.New(fault.NotFound, "NOT_FOUND", "there is no such record")
	// ErrExists says that the record is there already.
	ErrExists = fault.New(fault.AlreadyExists, "ALREADY_EXISTS", "the record exists already")
	// ErrConflict says that the record is not at the revision that the caller read (AIP-154).
	ErrConflict = fault.New(fault.Aborted, "ETAG_MISMATCH", "the record was changed since it was read")
	// ErrUnknown says that a write was not acknowledged in time: it may have happened.
	ErrUnknown = fault.New(fault.Unavailable, "OUTCOME_UNKNOWN", "the change was not confirmed in time and may have happened")
)

// The times of the barrier. Every process of a deployment must have the same, so they cannot be
// configured; a release that changes one must work with processes that have the old one.
const (
	// Lease is how long a mirror may work on what it knows after it began to ask a bucket's leader
	// how far the bucket is.
	Lease = time.Second
	// leaseMargin is what Confirm waits beyond the lease.
	leaseMargin = 50 * time.Millisecond
	// askEvery is how often a mirror asks; several questions may fail before the lease lapses.
	askEvery = 250 * time.Millisecond
	// announceEvery is how often a mirror says how far it is, if nothing changes.
	announceEvery = 250 * time.Millisecond
	// registerEvery is how often a mirror renews its registration.
	registerEvery = 3 * time.Second
	// memberValid is how long a registration counts for its mirror, from when it began to write it.
	memberValid = 9 * time.Second
	// memberDead is how long a registration must be seen unchanged before it is removed.
	memberDead = 12 * time.Second
)

// How long things stay that nobody needs any more.
const (
	// markerKept is how long the marker of a deletion stays.
	markerKept = 7 * 24 * time.Hour
	// cancellationKept is longer than any delivery can wait.
	cancellationKept = 30 * 24 * time.Hour
	// idempotencyKept is how long an answer can be repeated at most, and a claim can be taken over.
	idempotencyKept = 24 * time.Hour
	// jobKept is how long a job stays after it was last written. One that runs is written all the time.
	jobKept = 30 * 24 * time.Hour
	// failingKept is longer than a webhook can fail before it is disabled.
	failingKept = 60 * 24 * time.Hour
	// rescanAfter is how long a mirror may have been without contact and still go on where it was:
	// less than any marker stays.
	rescanAfter = time.Hour
)
