// Package retention takes out of the delivery log what is older than its account wants to keep. It
// owns nothing: what it misses it takes the next time.
package retention

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// Log is all that is needed of the delivery log. logstore.Store is one.
type Log interface {
	Ledger(ctx context.Context) (map[postrider.AccountID]logstore.Counts, error)
	Expire(ctx context.Context, account postrider.AccountID, before time.Time) (more bool, err error)
	Prune(ctx context.Context, before time.Time) error
}

// Accounts is all that is needed of the configuration.
type Accounts interface {
	ListAccounts(ctx context.Context, afterID string, limit int) ([]config.Entry[*recordv1.Account], error)
}

// Deps is what a Keeper works with.
type Deps struct {
	Log      Log
	Accounts Accounts
	// Default is how long the log keeps what happened, for accounts that do not say; 0 for ever. It is
	// also the longest.
	Default time.Duration
	Logger  *slog.Logger
	Now     func() time.Time
}

// Keeper keeps the log as small as its accounts want it.
type Keeper struct{ deps Deps }

// every is how often the log is looked through.
const every = time.Minute

// New returns a keeper.
func New(deps Deps) *Keeper { return &Keeper{deps: deps} }

// Run looks through the log until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := k.Sweep(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, logstore.ErrRebuilding) {
			k.deps.Logger.WarnContext(ctx, "what the delivery log has kept long enough is not all removed", "error", err)
		}
	}
}

// Sweep removes everything whose time is over.
func (k *Keeper) Sweep(ctx context.Context) error {
	now := k.deps.Now()
	var oldest time.Time
	if k.deps.Default > 0 {
		oldest = now.Add(-k.deps.Default)
	}
	if err := k.deps.Log.Prune(ctx, oldest); err != nil {
		return err
	}
	keeps, err := k.keeps(ctx)
	if err != nil {
		return err
	}
	for account, keep := range keeps {
		if keep <= 0 {
			continue
		}
		for more := true; more && ctx.Err() == nil; {
			if more, err = k.deps.Log.Expire(ctx, account, now.Add(-keep)); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// keeps is how long the log keeps what happened in each account that it may know.
func (k *Keeper) keeps(ctx context.Context) (map[postrider.AccountID]time.Duration, error) {
	known, err := k.deps.Log.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	list, err := k.deps.Accounts.ListAccounts(ctx, "", 0)
	if err != nil {
		return nil, err
	}
	keeps := make(map[postrider.AccountID]time.Duration, len(list))
	for account := range known {
		keeps[account] = k.deps.Default
	}
	for _, a := range list {
		keep := k.deps.Default
		if own := a.Record.GetAccount().GetLogRetention().AsDuration(); own > 0 && (keep == 0 || own < keep) {
			keep = own
		}
		keeps[postrider.AccountID(a.Record.GetAccount().GetId())] = keep
	}
	return keeps, nil
}
