// Package manage is the management side of the public API: accounts, keys, webhooks, event types
// and the reading and steering of deliveries. It is the only writer of the configuration. Each
// change is answered when every router and dispatcher works with it.
package manage

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

// DeliveryLog is what the API reads of the delivery log.
type DeliveryLog interface {
	Delivery(ctx context.Context, account postrider.AccountID, id string) (*logstore.Delivery, error)
	Deliveries(ctx context.Context, q logstore.Query) ([]*logstore.Delivery, error)
	Attempts(ctx context.Context, account postrider.AccountID, deliveryID string, skip, limit int) ([]*logstore.Attempt, error)
	AttemptOwner(ctx context.Context, account postrider.AccountID, attemptID string) (deliveryID string, start time.Time, err error)
	Moves(ctx context.Context, account postrider.AccountID, deliveryID string, limit int) ([]*logstore.Move, error)
	Event(ctx context.Context, account postrider.AccountID, id string) (*logstore.Event, error)
	RecordedEvents(ctx context.Context, q logstore.EventQuery) ([]*logstore.Event, error)
	Redact(ctx context.Context, account postrider.AccountID, eventID string) (attempts int, err error)
	Apply(ctx context.Context, entries []*recordv1.JournalEntry) error
	Incomplete() int64
	Kind() string
}

// DeadLetters is what the API reads of the record of dead letters.
type DeadLetters interface {
	Get(ctx context.Context, account postrider.AccountID, delivery postrider.DeliveryID) (*recordv1.DeadLetter, uint64, error)
	List(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, after uint64, limit int) ([]deadletterstream.Item, error)
	Select(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, from uint64, limit, bytes int) ([]deadletterstream.Item, error)
	LastSequence(ctx context.Context) (uint64, error)
	MaxAge() time.Duration
	Erase(ctx context.Context, sequence uint64) error
}

// Events is what the API reads of the record of events.
type Events interface {
	Get(ctx context.Context, account postrider.AccountID, sequence uint64) (*recordv1.Event, error)
	Find(ctx context.Context, account postrider.AccountID, id postrider.EventID) (*recordv1.Event, uint64, error)
	Select(ctx context.Context, sel eventstream.Selection) ([]eventstream.Selected, error)
	LastSequence(ctx context.Context, account postrider.AccountID) (uint64, error)
	Erase(ctx context.Context, account postrider.AccountID, sequence uint64) (bool, error)
}

// Replays runs the jobs that the API stores.
type Replays interface {
	Preview(ctx context.Context, job *recordv1.Job) (*postriderv1.ReplayPreview, error)
	Wake()
}

// Tickets makes credentials that nobody stores.
type Tickets interface {
	New(account postrider.AccountID, expires time.Time, readOnly bool) (string, error)
}

// Barrier answers when a revision of a bucket is in force everywhere.
type Barrier interface {
	Confirm(ctx context.Context, bucket string, revision uint64) error
}

// Deps is what the API works with.
type Deps struct {
	Store       *config.Store
	Barrier     Barrier
	Sealer      *seal.Sealer
	Log         DeliveryLog
	DeadLetters DeadLetters
	Router      routerv1.RouterServiceClient
	Dispatcher  dispatcherv1.DispatcherServiceClient
	Scheduler   schedulerv1.SchedulerServiceClient
	Index       Index
	Fresh       func() bool   // whether what Index says is true now
	Origin      string        // the DNS name that receivers are asked for their consent to
	PublicURL   string        // where receivers reach this deployment's HTTP side; empty if nowhere
	AllowHTTP   bool          // whether accounts that do not say may use http URLs
	MaxDedup    time.Duration // the longest deduplication window: the age of the record of events
	Notices     Notices
	Events      Events
	Replays     Replays
	// Tickets makes the credentials of portal links.
	Tickets Tickets
	// FailingLimit is how long webhooks may fail whose account does not say; 0 for ever.
	FailingLimit time.Duration
	Recorder     Recorder
	Journal      Journal
	Entries      Entries
	LogRetention time.Duration // how long the log keeps what happened; 0 for ever
	SettledAfter time.Duration // how old an attempt's record must be before it may be changed
	Logger       *slog.Logger
	Now          func() time.Time
}

// Server implements the management services of the public API.
type Server struct {
	postriderv1.UnimplementedAccountServiceServer
	postriderv1.UnimplementedWebhookServiceServer
	postriderv1.UnimplementedEventTypeServiceServer
	postriderv1.UnimplementedDeliveryServiceServer
	postriderv1.UnimplementedSigningKeyServiceServer
	postriderv1.UnimplementedReplayServiceServer
	postriderv1.UnimplementedLogServiceServer
	deps Deps
}

// New returns the server.
func New(deps Deps) *Server { return &Server{deps: deps} }

// Register adds the services.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	postriderv1.RegisterAccountServiceServer(r, s)
	postriderv1.RegisterWebhookServiceServer(r, s)
	postriderv1.RegisterEventTypeServiceServer(r, s)
	postriderv1.RegisterDeliveryServiceServer(r, s)
	postriderv1.RegisterSigningKeyServiceServer(r, s)
	postriderv1.RegisterReplayServiceServer(r, s)
	postriderv1.RegisterLogServiceServer(r, s)
}

// Rules is the scope that each method needs.
func Rules() map[string]postrider.Scope {
	rules := make(map[string]postrider.Scope)
	add := func(service string, scope postrider.Scope, methods ...string) {
		for _, m := range methods {
			rules["/postrider.v1."+service+"/"+m] = scope
		}
	}
	add("AccountService", postrider.ScopeAdmin, "CreateAccount", "ListAccounts", "UpdateAccount")
	add("AccountService", postrider.ScopeManage, "CreateApiKey", "ListApiKeys", "UpdateApiKey", "DeleteApiKey")
	add("AccountService", postrider.ScopeManage, "CreatePortalLink")
	add("AccountService", postrider.ScopeRead, "GetAccount", "GetCaller")
	add("WebhookService", postrider.ScopeManage, "CreateWebhook", "UpdateWebhook", "DeleteWebhook", "PauseWebhook",
		"ResumeWebhook", "RotateWebhookSecret", "GetWebhookSecrets", "TestWebhook", "VerifyWebhook", "HandshakeWebhook")
	add("WebhookService", postrider.ScopeRead, "GetWebhook", "ListWebhooks", "ExplainMatch", "GetWebhookBacklog", "GetWebhookHealth")
	add("EventTypeService", postrider.ScopeManage, "CreateEventType", "UpdateEventType", "DeleteEventType", "ImportEventTypes")
	add("EventTypeService", postrider.ScopeRead, "GetEventType", "ListEventTypes")
	add("DeliveryService", postrider.ScopeManage, "CancelDelivery", "CancelEvent", "CancelWebhookDeliveries", "RetryDelivery")
	add("DeliveryService", postrider.ScopeRead, "GetDelivery", "ListDeliveries", "ListAttempts", "GetDeadLetter", "ListDeadLetters",
		"SummarizeDeadLetters")
	add("ReplayService", postrider.ScopeManage, "CreateReplay", "RedriveDeadLetters", "AbortReplay")
	add("ReplayService", postrider.ScopeRead, "GetReplay", "ListReplays")
	add("LogService", postrider.ScopeAdmin, "RebuildLog")
	add("LogService", postrider.ScopeManage, "ExpungeEvent")
	add("LogService", postrider.ScopeRead, "LookUp", "ListRecordedEvents", "GetFlightRecord", "GetLogStatus")
	add("SigningKeyService", postrider.ScopeManage, "RotateSigningKey", "UploadClientKey", "DeleteClientKey")
	add("SigningKeyService", postrider.ScopeRead, "GetSigningKey", "ListSigningKeys", "ListClientKeys")
	return rules
}

// account is the account that a call is about: the credential's own, or the one that an admin
// names. Another account's is not found.
func (s *Server) account(ctx context.Context, requested string) (postrider.AccountID, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return "", err
	}
	id, err := p.For(requested)
	if err != nil {
		return "", err
	}
	if id == "" {
		return "", invalid("account_id", "is required with an admin key")
	}
	return id, nil
}

// existingAccount is account for calls that store something below it.
func (s *Server) existingAccount(ctx context.Context, requested string) (*postriderv1.Account, error) {
	id, err := s.account(ctx, requested)
	if err != nil {
		return nil, err
	}
	rec, _, err := s.deps.Store.GetAccount(ctx, string(id))
	if err != nil {
		return nil, stored(err, "account", string(id))
	}
	return rec.GetAccount(), nil
}

func invalid(field, rule string) error {
	return fault.InvalidFields(fault.Violation{Field: field, Rule: rule})
}

// stored turns an error of the configuration's store into what the caller sees.
func stored(err error, kind, id string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, config.ErrNotFound):
		return fault.New(fault.NotFound, "NOT_FOUND", "no "+kind+" "+id).WithMetadata("id", id)
	case errors.Is(err, config.ErrExists):
		return fault.New(fault.AlreadyExists, "ALREADY_EXISTS", kind+" "+id+" exists").WithMetadata("id", id)
	case errors.Is(err, config.ErrConflict):
		return fault.New(fault.Aborted, "ETAG_MISMATCH", kind+" "+id+" was changed meanwhile; read it again").WithMetadata("id", id)
	}
	return fault.New(fault.Unavailable, "STORE_UNAVAILABLE", "the configuration's store did not answer; the change may not be stored").WithCause(err)
}

// etag is a revision as callers see it.
func etag(revision uint64) string { return strconv.FormatUint(revision, 10) }

// maxRetries bounds how often a change without an etag is tried against concurrent changes.
const maxRetries = 8
