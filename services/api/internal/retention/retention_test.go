package retention_test

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/retention"
	"github.com/postrider/postrider/test/fixture/logtest"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// ages are how old the events of each account are.
var ages = []time.Duration{time.Hour, 3 * day, 20 * day, 40 * day}

// eventAt is an id of an event that was accepted at a time; n sets those of one time apart.
func eventAt(t time.Time, n int) postrider.EventID {
	var u ulid.ULID
	_ = u.SetTime(ulid.Timestamp(t))
	u[15] = byte(n)
	return postrider.EventIDOf(u)
}

// happened is the journal of an event with one delivery, up to a state.
func happened(account postrider.AccountID, id postrider.EventID, state postrider.DeliveryState) []*recordv1.JournalEntry {
	when, _ := id.Time()
	delivery := string(postrider.DeliveryIDFor(id, "wh_1", ""))
	entry := func() *recordv1.JournalEntry {
		return &recordv1.JournalEntry{Time: timestamppb.New(when), AccountId: string(account), EventId: string(id), EventType: "release.live"}
	}
	routed, attempted := entry(), entry()
	routed.What = &recordv1.JournalEntry_Routed{Routed: &recordv1.Routed{
		Deliveries: []*recordv1.RoutedDelivery{{DeliveryId: delivery, WebhookId: "wh_1"}}, MatchedTotal: 1, AcceptTime: timestamppb.New(when),
	}}
	attempted.DeliveryId, attempted.WebhookId, attempted.CreateTime = delivery, "wh_1", timestamppb.New(when)
	attempted.What = &recordv1.JournalEntry_Attempted{Attempted: &recordv1.Attempted{
		AttemptId: "att_" + string(id)[4:], Number: 1, StartTime: timestamppb.New(when), State: string(state), Trigger: "schedule",
	}}
	return []*recordv1.JournalEntry{routed, attempted}
}

// Each account keeps what it said, and one that says nothing, or is not there any more, what the
// deployment does. What has not ended stays, however old.
func TestEachAccountKeepsItsOwnTime(t *testing.T) {
	t.Parallel()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	accounts, err := config.Ensure(t.Context(), c)
	require.NoError(t, err)
	own := map[string]time.Duration{"brief": 2 * day, "longest": 90 * day, "silent": 0}
	ids := map[string]postrider.AccountID{"deleted": postrider.NewAccountID()}
	for name, keep := range own {
		ids[name] = postrider.NewAccountID()
		acc := &postriderv1.Account{Id: string(ids[name])}
		if keep > 0 {
			acc.LogRetention = durationpb.New(keep)
		}
		_, err := accounts.CreateAccount(t.Context(), &recordv1.Account{Account: acc})
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		deployment time.Duration
		kept       map[string]int // of the events of ages, the youngest
	}{
		"a deployment that keeps 30 days": {30 * day, map[string]int{"brief": 1, "longest": 3, "silent": 3, "deleted": 3}},
		"one that keeps for ever":         {0, map[string]int{"brief": 1, "longest": 4, "silent": 4, "deleted": 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, err := logstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), logtest.New(t))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, log.Close()) })
			require.NoError(t, log.SetIncomplete(t.Context(), log.Token(), 0))
			events, waiting := map[string][]string{}, map[string]string{}
			n := 0
			for name, account := range ids {
				for _, age := range ages {
					n++
					id := eventAt(now.Add(-age), n)
					require.NoError(t, log.Apply(t.Context(), happened(account, id, postrider.Delivered)))
					events[name] = append(events[name], string(id))
				}
				n++
				id := eventAt(now.Add(-40*day), n)
				require.NoError(t, log.Apply(t.Context(), happened(account, id, postrider.Waiting)))
				waiting[name] = string(id)
			}
			keeper := retention.New(retention.Deps{
				Log: log, Accounts: accounts, Default: c.deployment, Logger: logtest.New(t), Now: func() time.Time { return now },
			})
			for range 2 { // the second finds nothing to do
				require.NoError(t, keeper.Sweep(t.Context()))
				for name, kept := range c.kept {
					owners := map[string]string{waiting[name]: string(ids[name])}
					for _, id := range events[name] {
						owners[id] = string(ids[name])
					}
					known, err := log.Events(t.Context(), owners)
					require.NoError(t, err)
					require.ElementsMatch(t, append(slices.Clone(events[name][:kept]), waiting[name]), slices.Collect(maps.Keys(known)), name)
					d, err := log.Deliveries(t.Context(), logstore.Query{Account: ids[name], Limit: 10})
					require.NoError(t, err)
					require.Len(t, d, kept+1, name)
				}
			}
			ledger, err := log.Ledger(t.Context())
			require.NoError(t, err)
			for name, kept := range c.kept {
				require.EqualValues(t, kept+1, ledger[ids[name]].Routed, "%s: the ledger is of what is kept", name)
			}
		})
	}
}

// A log that is being built again is swept later: what is missing in it now is no reason to think that
// it is not there.
func TestALogThatIsBeingBuiltAgainIsSweptLater(t *testing.T) {
	t.Parallel()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	accounts, err := config.Ensure(t.Context(), c)
	require.NoError(t, err)
	log, err := logstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "log.db"), logtest.New(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	keeper := retention.New(retention.Deps{Log: log, Accounts: accounts, Default: day, Logger: logtest.New(t), Now: func() time.Time { return now }})
	require.NoError(t, log.SetIncomplete(t.Context(), log.Token(), 7))
	require.ErrorIs(t, keeper.Sweep(t.Context()), logstore.ErrRebuilding)
	require.NoError(t, log.SetIncomplete(t.Context(), log.Token(), 0))
	require.NoError(t, keeper.Sweep(t.Context()))
}
