// Package config owns the configuration buckets.
package config

import (
	"time"

	"github.com/postrider/postrider/pkg/fault"
)

// Names of the buckets that hold configuration, as Barrier.Confirm and Mirror.Revision take them.
const (
	BucketAccounts      = "accounts"
	BucketWebhooks      = "webhooks"
	BucketEventTypes    = "event_types"
	BucketKeys          = "keys"
	BucketCancellations = "cancellations"
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

// Lease is how long a mirror may work on what it knows after it began to ask a bucket's leader
// how far the bucket is. Every process of a deployment must have the same, so it cannot be
// configured.
const Lease = time.Second

// leaseMargin is what Confirm waits beyond the lease: the time that a worker needs between asking
// Fresh and doing the thing.
const leaseMargin = 50 * time.Millisecond
