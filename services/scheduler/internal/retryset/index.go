// Package retryset is the index of waiting retries: which record of RETRIES is due when. It
// owns every Redis key under postrider:retry. It is an index, never the record: the RETRIES
// streams are. It may lose everything at any moment; that costs a rebuild and, until it is
// done, punctuality, but no delivery, because a record that nobody releases fires by itself.
//
// There are two implementations, held to one conformance suite: Redis, shared between
// replicas, and Memory, for a single process.
package retryset

import (
	"context"
	"errors"
	"time"
)

// ErrEpochLost says that an index, or a part of it, no longer holds what was put into it: it
// was flushed, emptied, restored from an older state, or has not been filled since this
// process began. It is cleared by a rebuild and by nothing else.
var ErrEpochLost = errors.New("the retry index lost its contents")

// NotAddedError says which members an Add did not, or not certainly, put into the index. It put the
// others there.
type NotAddedError struct {
	Members []Member
	// Away are the slots of the servers that failed. Another Add to them costs time and fails.
	Away Slots
	Err  error
}

// Error is the cause's.
func (e *NotAddedError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NotAddedError) Unwrap() error { return e.Err }

// Member names a waiting retry by the place of its record. The delivery is not part of it:
// the record names it, and a record that is not due is never released because of a member.
type Member struct {
	Shard    int
	Sequence uint64
}

// Entry is a member and the time from which it may be claimed.
type Entry struct {
	Member

	Due time.Time
}

// Claimed is the result of a claim.
type Claimed struct {
	// Members are leased to the caller.
	Members []Member
	// Next is when the next member that this claim left behind is due, or when the next lease
	// runs out; zero if nothing waits. It lies in the past if the claim was cut by its limit.
	Next time.Time
	// Vanished is how many parts of the index no longer hold what this process had seen there. Each
	// loss is told once. A process that has just started has seen nothing, and misses nothing.
	Vanished int
}

// Index says which retries are due. All methods may be called concurrently, by any number of
// replicas. An error other than ErrEpochLost means that the store could not be reached or
// did not understand; what was asked may have happened or not, and every method may be
// repeated.
type Index interface {
	// Add puts entries into the index. Entries that are there already keep the later of the
	// two times, so that repeating an Add takes no lease away. If the index is spread over servers
	// of which some are away, the error is a NotAddedError.
	Add(ctx context.Context, entries ...Entry) error
	// Claim leases members that are due at now, at most about limit of them. A member that is
	// neither dropped nor moved before its lease ends is due again at that moment. Members are
	// valid beside any error. ErrEpochLost says that members are missing.
	Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) (Claimed, error)
	// Drop takes members out. Those that are not in are ignored.
	Drop(ctx context.Context, members ...Member) error
	// Move sets the due time of members that are in, leased or not, and ignores the others.
	Move(ctx context.Context, entries ...Entry) error
	// Missing returns those of the members that are not in the index.
	Missing(ctx context.Context, members []Member) ([]Member, error)
	// Count is the number of members, leased ones included.
	Count(ctx context.Context) (int64, error)

	// Distrust notes that an Add of these members failed: their slots need a rebuild that
	// begins after this call.
	Distrust(members ...Member)
	// BeginRebuild begins a rebuild of the slots that are lost and that no other replica is
	// rebuilding; there may be none. The caller reads the records after this call, never before.
	BeginRebuild(ctx context.Context) (*Rebuild, error)
	// Refill adds those of the entries that belong to the rebuild. It is called every few
	// seconds, without entries if need be: a rebuild that is silent for long is taken for dead.
	Refill(ctx context.Context, r *Rebuild, entries []Entry) error
	// EndRebuild declares the rebuilt slots whole. It returns those that it could not, because
	// they were lost again meanwhile or another replica took them over; they stay lost.
	EndRebuild(ctx context.Context, r *Rebuild) (Slots, error)
	// AbandonRebuild gives up a rebuild that cannot be finished, so that the next one need not
	// wait. The slots stay lost.
	AbandonRebuild(ctx context.Context, r *Rebuild) error

	// TryLock takes an advisory lock that several replicas use to share work out; ok is false
	// if another holds it. It may be held by two at once after a failure, so nothing that must
	// be true may rest on it.
	TryLock(ctx context.Context, name string, ttl time.Duration) (lock Lock, ok bool, err error)
}

// Lock is an advisory lock that is held until it is released or its time is over.
type Lock interface {
	// Extend starts the lock's time anew; held is false if it was lost.
	Extend(ctx context.Context) (held bool, err error)
	// Release gives the lock up, if it is still held.
	Release(ctx context.Context) error
}

// Rebuild is one pass of filling the index from the records.
type Rebuild struct {
	// Slots are what the pass fills.
	Slots Slots

	token string
	slots [slotCount]rebuildSlot
}

// rebuildSlot is what a rebuild must remember of a slot to declare it whole.
type rebuildSlot struct {
	begun  int64  // microseconds: the generation the slot will have
	run    int64  // the process of the server that it began in
	doubts uint64 // what was distrusted before the begin
}

// Covers reports whether the pass fills the member's slot.
func (r *Rebuild) Covers(m Member) bool { return r.Slots.Has(slotOf(m)) }
