package ledger

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/reconcile"
)

// store is all that is needed of the configuration.
type store interface {
	GetAccount(ctx context.Context, id string) (*recordv1.Account, uint64, error)
}

// reconciler names what does not balance.
type reconciler interface {
	Run(
		ctx context.Context, repair bool, named func(*postriderv1.Imbalance) error, progress func(*postriderv1.ReconcileProgress) error,
	) (*postriderv1.ReconcileSummary, error)
}

// Server implements LedgerService.
type Server struct {
	postriderv1.UnimplementedLedgerServiceServer

	counter    *Counter
	store      store
	reconciler reconciler
	log        *slog.Logger
	running    chan struct{} // held by the one reconciliation that runs
}

// NewServer returns a server.
func NewServer(counter *Counter, store store, r reconciler, log *slog.Logger) *Server {
	return &Server{counter: counter, store: store, reconciler: r, log: log, running: make(chan struct{}, 1)}
}

// Register adds the service.
func (s *Server) Register(r grpc.ServiceRegistrar) { postriderv1.RegisterLedgerServiceServer(r, s) }

// Rules is the scope that each method needs.
func Rules() map[string]postrider.Scope {
	return map[string]postrider.Scope{
		postriderv1.LedgerService_GetLedger_FullMethodName:   postrider.ScopeRead,
		postriderv1.LedgerService_ListLedgers_FullMethodName: postrider.ScopeAdmin,
		postriderv1.LedgerService_Reconcile_FullMethodName:   postrider.ScopeAdmin,
	}
}

// GetLedger counts the deliveries of the credential's account, or of the one that an admin names.
func (s *Server) GetLedger(ctx context.Context, req *postriderv1.GetLedgerRequest) (*postriderv1.GetLedgerResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	account, err := p.For(req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if err := s.exists(ctx, account); err != nil {
		return nil, err
	}
	c, err := s.counter.Count(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	return &postriderv1.GetLedgerResponse{
		Ledger: shown(account, c.Accounts[account]), CountTime: timestamppb.New(c.Time), Unrecorded: c.Unrecorded,
	}, nil
}

func (s *Server) exists(ctx context.Context, account postrider.AccountID) error {
	_, _, err := s.store.GetAccount(ctx, string(account))
	if errors.Is(err, config.ErrNotFound) {
		return fault.New(fault.NotFound, "NOT_FOUND", "no account "+string(account)).WithMetadata("id", string(account))
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// ListLedgers counts the deliveries of every account.
func (s *Server) ListLedgers(ctx context.Context, _ *postriderv1.ListLedgersRequest) (*postriderv1.ListLedgersResponse, error) {
	c, err := s.counter.Count(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	resp := &postriderv1.ListLedgersResponse{CountTime: timestamppb.New(c.Time), Unrecorded: c.Unrecorded, Unrouted: c.Unrouted}
	var total Terms
	for account, t := range c.Accounts {
		resp.Ledgers = append(resp.Ledgers, shown(account, t))
		total = total.plus(t)
	}
	slices.SortFunc(resp.GetLedgers(), func(a, b *postriderv1.Ledger) int { return strings.Compare(a.GetAccountId(), b.GetAccountId()) })
	resp.Total = shown("", total)
	return resp, nil
}

func shown(account postrider.AccountID, t Terms) *postriderv1.Ledger {
	return &postriderv1.Ledger{
		AccountId: string(account), Routed: t.Routed, Delivered: t.Delivered, Dead: t.Dead, Cancelled: t.Cancelled,
		Waiting: t.Waiting, Held: t.Held, InFlight: t.InFlight, Difference: t.Difference(),
	}
}

// Reconcile names what does not balance, and ends with a summary. One runs at a time.
func (s *Server) Reconcile(req *postriderv1.ReconcileRequest, out grpc.ServerStreamingServer[postriderv1.ReconcileResponse]) error {
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	default:
		return fault.New(fault.Unavailable, "RECONCILING", "another reconciliation runs").WithRetryAfter(10 * time.Second)
	}
	ctx := out.Context()
	var progress func(*postriderv1.ReconcileProgress) error
	if req.GetProgress() {
		progress = func(p *postriderv1.ReconcileProgress) error {
			return out.Send(&postriderv1.ReconcileResponse{What: &postriderv1.ReconcileResponse_Progress{Progress: p}})
		}
	}
	summary, err := s.reconciler.Run(ctx, req.GetRepair(), func(i *postriderv1.Imbalance) error {
		s.log.WarnContext(ctx, "imbalance", "kind", i.GetKind().String(), "account", i.GetAccountId(), "event", i.GetEventId(),
			"delivery", i.GetDeliveryId(), "repaired", i.GetRepaired())
		return out.Send(&postriderv1.ReconcileResponse{What: &postriderv1.ReconcileResponse_Imbalance{Imbalance: i}})
	}, progress)
	switch {
	case errors.Is(err, reconcile.ErrRecorderBehind):
		return fault.New(fault.Unavailable, "LOG_BEHIND", "the delivery log does not catch up with the journal, so nothing can be said").WithCause(err).WithRetryAfter(time.Minute)
	case err != nil:
		return unavailable(err)
	}
	return out.Send(&postriderv1.ReconcileResponse{What: &postriderv1.ReconcileResponse_Summary{Summary: summary}})
}

// unavailable is an error of a store, which passes.
func unavailable(err error) error {
	if _, ok := fault.As(err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "a store did not answer").WithCause(err).WithRetryAfter(time.Second)
}
