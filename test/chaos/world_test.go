//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/rpc"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/cluster"
)

// hookPlan is a webhook to be made. Wants spells out what its patterns mean, so that the drill does
// not ask the code under test what was to be delivered.
type hookPlan struct {
	account  int
	patterns []string
	wants    []string
	schedule *postriderv1.RetrySchedule
	timeout  time.Duration // of an attempt; 0 for the default
	mood     mood
	ordering string // "" for none
}

// eventPlan is a kind of event to be published.
type eventPlan struct {
	account   int
	eventType string
	key       string // its ordering key
}

// world is a deployment with accounts and webhooks, and the drill's ledger about it. Events are
// numbered; a number says everything about an event.
type world struct {
	cluster  *cluster.Cluster
	ledger   *ledger
	receiver *receiver
	accounts []*account
	hooks    []hookPlan
	hookIDs  []string
	hookOf   map[string]int
	plan     func(number int) eventPlan

	publishing postriderv1.EventServiceClient
	logs       []postriderv1.DeliveryServiceClient // of each api replica: each has a log of its own
}

// account is one with a key that may do everything in it.
type account struct {
	id, key string
}

func (a *account) as(ctx context.Context) context.Context { return as(ctx, a.key) }

func as(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := rpc.Dial(rpc.ClientConfig{Target: target})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func newWorld(t *testing.T, c *cluster.Cluster, accounts int, hooks []hookPlan, plan func(int) eventPlan) *world {
	t.Helper()
	w := &world{cluster: c, hooks: hooks, plan: plan, hookOf: map[string]int{}}
	w.ledger = newLedger(w.wants, w.data)
	moods := make([]mood, len(hooks))
	for i, h := range hooks {
		moods[i] = h.mood
	}
	w.receiver = startReceiver(t, w.ledger, moods)
	w.publishing = postriderv1.NewEventServiceClient(dial(t, c.IngestTarget()))
	for _, p := range c.Of("api") {
		w.logs = append(w.logs, postriderv1.NewDeliveryServiceClient(dial(t, c.GRPCTarget(p))))
	}
	manage := dial(t, c.APITarget())
	for range accounts {
		w.accounts = append(w.accounts, newAccount(t, postriderv1.NewAccountServiceClient(manage), c.AdminKey))
	}
	webhooks := postriderv1.NewWebhookServiceClient(manage)
	for i, h := range hooks {
		hook := &postriderv1.Webhook{Url: w.receiver.url(i), EventTypes: h.patterns, RetrySchedule: h.schedule, Ordering: h.ordering}
		if h.mood.misbehave != nil {
			hook.Url = w.receiver.apart(t, i)
		}
		if h.timeout > 0 {
			hook.AttemptTimeout = durationpb.New(h.timeout)
		}
		made, err := webhooks.CreateWebhook(w.accounts[h.account].as(t.Context()), &postriderv1.CreateWebhookRequest{Webhook: hook})
		require.NoError(t, err)
		w.hookIDs = append(w.hookIDs, made.GetWebhook().GetId())
		w.hookOf[made.GetWebhook().GetId()] = i
	}
	return w
}

func newAccount(t *testing.T, accounts postriderv1.AccountServiceClient, adminKey string) *account {
	t.Helper()
	admin := as(t.Context(), adminKey)
	made, err := accounts.CreateAccount(admin, &postriderv1.CreateAccountRequest{Account: &postriderv1.Account{DisplayName: t.Name()}})
	require.NoError(t, err)
	key, err := accounts.CreateApiKey(admin, &postriderv1.CreateApiKeyRequest{
		AccountId: made.GetAccount().GetId(), Scopes: []string{"publish", "manage", "read"},
	})
	require.NoError(t, err)
	return &account{id: made.GetAccount().GetId(), key: key.GetSecret()}
}

// wants is the webhooks that want an event, by the plans.
func (w *world) wants(number int) []int {
	e := w.plan(number)
	var out []int
	for i, h := range w.hooks {
		if h.account == e.account && slices.Contains(h.wants, e.eventType) {
			out = append(out, i)
		}
	}
	return out
}

// padding makes one event in fifty too big to travel inside its deliveries.
var padding = strings.Repeat("x", 6<<10)

// data is an event's body.
func (w *world) data(number int) []byte {
	if number%50 == 49 {
		return fmt.Appendf(nil, `{"number":%d,"padding":%q}`, number, padding)
	}
	return fmt.Appendf(nil, `{"number":%d,"padding":%q}`, number, padding[:200])
}

// request is the publish of an event: the same for every try.
func (w *world) request(number int) *postriderv1.PublishEventRequest {
	e := w.plan(number)
	return &postriderv1.PublishEventRequest{
		IdempotencyKey: fmt.Sprintf("event-%d", number),
		Event:          &postriderv1.EventInput{Type: e.eventType, OrderingKey: e.key, Data: w.data(number)},
	}
}

// inTurn plans events by their numbers.
func inTurn(events []eventPlan) func(int) eventPlan {
	return func(number int) eventPlan { return events[number%len(events)] }
}

// schedule is a retry schedule of as many equal delays as there may be, so that nothing dies.
func schedule(delay time.Duration, jitter float64) *postriderv1.RetrySchedule {
	const most = 24
	s := &postriderv1.RetrySchedule{Jitter: &jitter}
	for range most {
		s.Delays = append(s.Delays, durationpb.New(delay))
	}
	return s
}

// logged is what the log of one api replica says, by delivery; fn is called for each.
func (w *world) logged(ctx context.Context, replica int, state postriderv1.DeliveryState, fn func(*postriderv1.Delivery)) error {
	for _, a := range w.accounts {
		req := &postriderv1.ListDeliveriesRequest{PageSize: 1000, State: state}
		for {
			page, err := w.logs[replica].ListDeliveries(a.as(ctx), req)
			if err != nil {
				return err
			}
			for _, d := range page.GetDeliveries() {
				fn(d)
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
	}
	return nil
}

// pairOf names a delivery of the log as the ledger does.
func (w *world) pairOf(d *postriderv1.Delivery) pair {
	hook, ok := w.hookOf[d.GetWebhookId()]
	if !ok {
		hook = -1
	}
	return pair{hook, d.GetEventId()}
}
