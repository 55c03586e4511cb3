// Package audit records who changed what. A call that changes something is answered as done only when
// its entry is stored. A process that dies in between leaves a change without an entry; its caller was
// not answered, and will look or repeat. Entries name things and fields, never values.
package audit

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// store is all that is needed of AUDIT.
type store interface {
	Append(ctx context.Context, id string, entry *postriderv1.AuditEntry) error
	List(ctx context.Context, account string, before uint64, limit int) ([]*postriderv1.AuditEntry, error)
}

// Log records and shows entries.
type Log struct {
	postriderv1.UnimplementedAuditServiceServer
	store store
	log   *slog.Logger
	now   func() time.Time
}

// New returns a log over a store.
func New(store store, log *slog.Logger, now func() time.Time) *Log {
	return &Log{store: store, log: log, now: now}
}

// Register adds the service.
func (l *Log) Register(r grpc.ServiceRegistrar) { postriderv1.RegisterAuditServiceServer(r, l) }

// Rules is the scope that each method needs.
func Rules() map[string]postrider.Scope {
	return map[string]postrider.Scope{postriderv1.AuditService_ListAuditEntries_FullMethodName: postrider.ScopeManage}
}

// recordTimeout bounds the storing of an entry, whose call may have ended meanwhile.
const recordTimeout = 10 * time.Second

// Changes says which of the methods change something, or show a secret: those that need more than to
// read, but for lists.
func Changes(rules map[string]postrider.Scope) map[string]bool {
	changes := make(map[string]bool)
	for method, scope := range rules {
		_, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
		if (scope == postrider.ScopeManage || scope == postrider.ScopeAdmin) && !strings.HasPrefix(name, "List") {
			changes[method] = true
		}
	}
	return changes
}

// Unary records each call of the methods that change something. It stands behind access.Unary, which
// says who calls.
func (l *Log) Unary(changes map[string]bool) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		p, err := access.FromContext(ctx)
		if counts, ok := req.(interface{ GetDryRun() bool }); !changes[info.FullMethod] || err != nil || ok && counts.GetDryRun() {
			return next(ctx, req)
		}
		resp, err := next(ctx, req)
		entry := l.entry(ctx, p, info.FullMethod, req, resp, err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		if lost := l.store.Append(ctx, uuid.NewString(), entry); lost != nil {
			l.log.ErrorContext(ctx, "a change is not in the audit log", "method", entry.GetMethod(), "error", lost)
			if err == nil {
				return nil, fault.New(fault.Unavailable, "AUDIT_UNAVAILABLE", "the change was made, but it cannot be recorded now who made it").WithCause(lost)
			}
		}
		return resp, err
	}
}

func (l *Log) entry(ctx context.Context, p access.Principal, method string, req, resp any, err error) *postriderv1.AuditEntry {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	entry := &postriderv1.AuditEntry{
		Time: timestamppb.New(l.now()), ApiKeyId: p.KeyID, AccountId: account(p, req),
		Method: service[strings.LastIndexByte(service, '.')+1:] + "." + name, RequestId: rpc.RequestID(ctx),
	}
	if m, ok := req.(proto.Message); ok {
		entry.Fields = fields(m)
		entry.Targets = targets(m)
	}
	if m, ok := resp.(proto.Message); ok && err == nil {
		for _, id := range targets(m) {
			entry.Targets = add(entry.Targets, id)
		}
	}
	if e, ok := fault.As(fault.FromStatus(err)); ok {
		entry.ErrorReason = e.Reason
	} else if err != nil {
		entry.ErrorReason = fault.ReasonInternal
	}
	return entry
}

// account is whose entry it is: the credential's, or the one that an operator names.
func account(p access.Principal, req any) string {
	if p.Account != "" {
		return string(p.Account)
	}
	id := ""
	if named, ok := req.(interface{ GetAccountId() string }); ok {
		id = named.GetAccountId()
	}
	if changed, ok := req.(interface{ GetAccount() *postriderv1.Account }); ok {
		id = changed.GetAccount().GetId()
	}
	if !postrider.AccountID(id).Valid() {
		return ""
	}
	return id
}
