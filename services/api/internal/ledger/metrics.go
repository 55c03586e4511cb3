package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// accounts is all that is needed of the configuration.
type accounts interface {
	ListAccounts(ctx context.Context, afterID string, limit int) ([]config.Entry[*recordv1.Account], error)
}

// countEvery is how often the ledger is counted for the metrics, at most.
const countEvery = 30 * time.Second

// Meter counts the ledger from time to time and shows it by account class.
type Meter struct {
	counter  *Counter
	accounts accounts
	log      *slog.Logger

	deliveries, difference, unrecorded, unrouted metric.Int64Gauge
	shown                                        map[string]bool // classes that have been shown
}

// NewMeter makes the instruments.
func NewMeter(counter *Counter, accounts accounts, m metric.Meter, log *slog.Logger) (*Meter, error) {
	x := &Meter{counter: counter, accounts: accounts, log: log, shown: make(map[string]bool)}
	var errs []error
	gauge := func(into *metric.Int64Gauge, name, help string) {
		g, err := m.Int64Gauge(name, metric.WithDescription(help))
		*into = g
		errs = append(errs, err)
	}
	gauge(&x.deliveries, "postrider.ledger.deliveries", "Deliveries by account class and term of the ledger, each counted where it is.")
	gauge(&x.difference, "postrider.ledger.difference", "Routed deliveries less all others, by account class: 0 when nothing moves.")
	gauge(&x.unrecorded, "postrider.ledger.unrecorded", "Messages of the journal that the delivery log has not recorded yet.")
	gauge(&x.unrouted, "postrider.ledger.unrouted", "Events that are accepted and not routed yet.")
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make the ledger's metrics: %w", err)
	}
	return x, nil
}

// Run counts until the context ends.
func (x *Meter) Run(ctx context.Context) error {
	timer := time.NewTimer(countEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		begun := time.Now()
		if err := x.Observe(ctx); err != nil && ctx.Err() == nil {
			x.log.WarnContext(ctx, "ledger not counted", "error", err)
		}
		timer.Reset(max(countEvery, share*time.Since(begun)))
	}
}

// Observe counts once and shows it.
func (x *Meter) Observe(ctx context.Context) error {
	s, err := x.counter.Count(ctx)
	if err != nil {
		return err
	}
	list, err := x.accounts.ListAccounts(ctx, "", 0)
	if err != nil {
		return err
	}
	classes := make(map[postrider.AccountID]string, len(list))
	for _, a := range list {
		classes[postrider.AccountID(a.Record.GetAccount().GetId())] = a.Record.GetAccount().GetAccountClass()
	}
	sums := make(map[string]Terms)
	for class := range x.shown {
		sums[class] = Terms{} // a gauge that is not set again would keep its last value
	}
	for account, t := range s.Accounts {
		class := postrider.AccountClass(classes[account])
		sums[class] = sums[class].plus(t)
	}
	for class, t := range sums {
		x.shown[class] = true
		x.show(ctx, class, t)
	}
	x.unrecorded.Record(ctx, s.Unrecorded)
	x.unrouted.Record(ctx, s.Unrouted)
	return nil
}

func (x *Meter) show(ctx context.Context, class string, t Terms) {
	of := attribute.String("account_class", class)
	for term, n := range map[string]int64{
		"routed": t.Routed, "delivered": t.Delivered, "dead": t.Dead, "cancelled": t.Cancelled,
		"waiting": t.Waiting, "held": t.Held, "in_flight": t.InFlight,
	} {
		x.deliveries.Record(ctx, n, metric.WithAttributes(of, attribute.String("term", term)))
	}
	x.difference.Record(ctx, t.Difference(), metric.WithAttributes(of))
}
