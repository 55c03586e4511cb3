// Package idempotency makes a request that is repeated under one Idempotency-Key one request: its
// effect happens once, and every repeat gets the first answer. It holds over replicas and restarts,
// because what it knows is in the bucket `idempotency` of the configuration. What that bucket loses
// may be done again; the package loses nothing else.
//
// # Order
//
// A claim is stored by compare-and-set before the effect begins, and the answer after it. The claim
// carries the id of what the request creates, so that whoever goes on with it, after a crash
// anywhere in between, creates the same thing again and not another: the effect, given that id, must
// be one that may be done twice. A claim whose process died is taken over when the process could no
// longer be at work: an effect gets less time than a claim has.
package idempotency

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// What a caller did, or must wait for.
var (
	// ErrMissing says that the request has no key.
	ErrMissing = errors.New("the header Idempotency-Key is missing")
	// ErrMalformed says that the key is none.
	ErrMalformed = errors.New("the header Idempotency-Key is not well-formed")
	// ErrOtherRequest says that the key was used for another request.
	ErrOtherRequest = errors.New("the Idempotency-Key was used for another request")
	// ErrRunning says that the first request under the key has not ended.
	ErrRunning = errors.New("a request with this Idempotency-Key is being processed")
)

// The times of a claim.
const (
	// DefaultKept is how long an answer is repeated.
	DefaultKept = 24 * time.Hour
	// claimed is how long a claim keeps others away, if its process says no more.
	claimed = 45 * time.Second
	// effect is how long claim and effect may take; the rest is for clocks that differ.
	effect = 30 * time.Second
	// recorded is how long storing the answer may take.
	recorded = 5 * time.Second
	// maxRounds bounds how often a claim is tried against concurrent ones.
	maxRounds = 8
)

// Store is what the Keeper needs of the configuration's store.
type Store interface {
	GetIdempotent(ctx context.Context, account, scope, key string) (*recordv1.IdempotentResult, uint64, error)
	PutIdempotent(ctx context.Context, account, scope, key string, rec *recordv1.IdempotentResult, rev uint64) (uint64, error)
}

// Keeper remembers requests and their answers.
type Keeper struct {
	store Store
	kept  time.Duration
	now   func() time.Time
	log   *slog.Logger
}

// New returns a keeper that repeats answers for as long as kept says, at most a day; 0 means
// DefaultKept.
func New(store Store, kept time.Duration, now func() time.Time, log *slog.Logger) *Keeper {
	if kept <= 0 || kept > DefaultKept {
		kept = DefaultKept
	}
	return &Keeper{store: store, kept: kept, now: now, log: log}
}

// Request is a request under a key.
type Request struct {
	Account string
	// Scope is what the key is unique in, within the account: method and path.
	Scope string
	Key   string
	// Fingerprint tells requests apart that should not share a key.
	Fingerprint []byte
	// ResourceID is the id of what the request is to create, or of what it found; it is what the
	// effect gets, unless an earlier claim chose another.
	ResourceID string
}

// Answer is what a request is answered with.
type Answer struct {
	Status  int
	Headers map[string]string
	Body    []byte
}

// lasting reports whether the answer would be the same if the request were made again. What fails
// for a reason outside the request is not kept, so that a repeat may succeed.
func (a Answer) lasting() bool {
	switch a.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusTooManyRequests:
		return false
	}
	return a.Status >= 200 && a.Status < 500
}

// Do has the effect happen, or finds the answer of the request that had it. The effect may be asked
// for more than once with the same resourceID. It goes on when the caller goes away, so that a
// repeat finds the answer and not a claim that nobody works on. Errors are those above, or the
// store's.
func (k *Keeper) Do(ctx context.Context, r Request, run func(ctx context.Context, resourceID string) Answer) (answer Answer, replayed bool, err error) {
	if err := ctx.Err(); err != nil {
		return Answer{}, false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), effect)
	defer cancel()
	claim, revision, err := k.claim(ctx, r)
	if err != nil {
		return Answer{}, false, err
	}
	if claim.GetStatus() != 0 {
		return stored(claim), true, nil
	}
	answer = run(ctx, claim.GetResourceId())
	return k.record(ctx, r, claim, revision, answer), false, nil
}

// claim stores a claim, or returns the record of a request that has ended.
func (k *Keeper) claim(ctx context.Context, r Request) (*recordv1.IdempotentResult, uint64, error) {
	for range maxRounds {
		rec, revision, err := k.store.GetIdempotent(ctx, r.Account, r.Scope, r.Key)
		if err != nil && !errors.Is(err, config.ErrNotFound) {
			return nil, 0, err
		}
		now := k.now()
		switch {
		case err != nil:
			rec, revision = fresh(r, now), 0
		case now.Sub(rec.GetClaimTime().AsTime()) >= k.kept:
			rec = fresh(r, now) // over the one that is too old to count
		case !bytes.Equal(rec.GetFingerprint(), r.Fingerprint):
			return nil, 0, ErrOtherRequest
		case rec.GetStatus() != 0:
			return rec, revision, nil
		case now.Sub(rec.GetClaimTime().AsTime()) < claimed:
			return nil, 0, ErrRunning
		default:
			rec.ClaimTime = timestamppb.New(now) // its process is gone
		}
		revision, err = k.store.PutIdempotent(ctx, r.Account, r.Scope, r.Key, rec, revision)
		if errors.Is(err, config.ErrConflict) {
			continue // somebody else claimed it: look what for
		}
		return rec, revision, err
	}
	return nil, 0, ErrRunning
}

func fresh(r Request, now time.Time) *recordv1.IdempotentResult {
	return &recordv1.IdempotentResult{Fingerprint: r.Fingerprint, ResourceId: r.ResourceID, ClaimTime: timestamppb.New(now)}
}

// record stores the answer, or gives the claim up if the answer does not last; the resource id
// stays, because the effect may have happened. It returns what the caller is to be told. The work
// is done, so it is recorded even if its time is over.
func (k *Keeper) record(ctx context.Context, r Request, claim *recordv1.IdempotentResult, revision uint64, answer Answer) Answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recorded)
	defer cancel()
	if answer.lasting() {
		claim.Status, claim.Headers, claim.Body = int32(answer.Status), answer.Headers, answer.Body //nolint:gosec // a status has three digits
	} else {
		claim.ClaimTime = timestamppb.New(k.now().Add(-claimed)) // whoever comes next takes it over
	}
	_, err := k.store.PutIdempotent(ctx, r.Account, r.Scope, r.Key, claim, revision)
	if errors.Is(err, config.ErrConflict) {
		// It took so long that another took the claim over. If that has answered, its answer counts.
		other, _, err := k.store.GetIdempotent(ctx, r.Account, r.Scope, r.Key)
		if err == nil && other.GetStatus() != 0 && bytes.Equal(other.GetFingerprint(), r.Fingerprint) {
			return stored(other)
		}
		return answer
	}
	if err != nil {
		// A repeat finds the claim, waits until it can be taken over, and does the same again.
		k.log.WarnContext(ctx, "answer to an idempotent request is not kept", "account", r.Account, "error", err)
	}
	return answer
}

func stored(rec *recordv1.IdempotentResult) Answer {
	return Answer{Status: int(rec.GetStatus()), Headers: rec.GetHeaders(), Body: rec.GetBody()}
}

// Status is the HTTP status for an error of this package; 0 if it is none of its own.
func Status(err error) int {
	switch {
	case errors.Is(err, ErrMissing), errors.Is(err, ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrOtherRequest):
		return http.StatusUnprocessableEntity
	case errors.Is(err, ErrRunning):
		return http.StatusConflict
	}
	return 0
}

// Scope is the usual scope of a key: the request's method and path.
func Scope(r *http.Request) string { return fmt.Sprintf("%s %s", r.Method, r.URL.Path) }
