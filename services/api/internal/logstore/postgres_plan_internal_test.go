//go:build integration

package logstore

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/pgtest"
)

// Each query finds what it wants by an index, of which the condition says how much is looked at. The
// tables are small here, so that the planner is told not to read them whole.
func TestPostgreSQLsQueriesUseTheirIndex(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, append(pgtest.Fast(), "enable_seqscan=off")...)
	s, err := OpenPostgres(t.Context(), server.URL(t), 2, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.SetIncomplete(t.Context(), s.Token(), 0))
	fillForPlans(t, s)
	for name, c := range map[string]struct {
		query Query
		want  string
	}{
		"all":          {Query{}, "account_key = "},
		"by state":     {Query{State: "dead"}, "(account_id = 'acc_1'::text) AND (state = 'dead'::text)"},
		"by type":      {Query{EventType: "a.b"}, "(type_key = "},
		"by status":    {Query{StatusCode: 500}, "(last_status_code = 500)"},
		"by success":   {Query{StatusCode: 204}, "(last_status_code = 204)"},
		"by outcome":   {Query{Outcome: "gone"}, "(last_outcome = 'gone'::text)"},
		"by event":     {Query{EventID: "evt_1"}, "(event_key = "},
		"by webhook":   {Query{WebhookID: "wh_1"}, "(webhook_key = "},
		"by call id":   {Query{CallID: "1de6b22c-2fef-861f-be73-8dbad5c52c32"}, "(delivery_id = "},
		"a later page": {Query{After: Cursor{CreateTime: time.UnixMicro(5), ID: "dlv_1"}}, "(create_time <= '5'::bigint)"},
	} {
		c.query.Account, c.query.Limit = "acc_1", 10
		where, args := c.query.where(false)
		s.requireIndex(t, name, selectDeliveries+where+c.query.order(), append(args, 10), c.want)
	}
	for name, c := range map[string]struct {
		query EventQuery
		want  string
	}{
		"events":           {EventQuery{}, "account_key = "},
		"events by type":   {EventQuery{EventType: "a"}, "(type_key = "},
		"events by key":    {EventQuery{Key: "a"}, "(given_hash = "},
		"events by trace":  {EventQuery{TraceID: "a"}, "(trace_hash = "},
		"unmatched events": {EventQuery{Unmatched: true}, "account_key = "},
	} {
		c.query.Account, c.query.Limit = "acc_1", 10
		query, args := c.query.text(false)
		s.requireIndex(t, name, query, args, c.want)
	}
	for name, c := range map[string]struct {
		text string
		args []any
		want string
	}{
		"a delivery":     {selectDeliveries + `delivery_id = ? AND account_id = ?`, []any{"dlv_1", "acc_1"}, "(delivery_id = 'dlv_1'::text)"},
		"early attempts": {selectEarly, []any{"dlv_1", "acc_1"}, "(delivery_id = 'dlv_1'::text)"},
		"an early one":   {selectEarlyOwner, []any{1, "acc_1", 1, 2, "%att_1%"}, "(create_time >= '1'::bigint)"},
		"attempts":       {selectAttempts, []any{"dlv_1", "acc_1", 1, 1}, "(delivery_id = 'dlv_1'::text)"},
		"an attempt":     {selectOwner, []any{"att_1", "acc_1"}, "(attempt_id = 'att_1'::text)"},
		"moves":          {selectMoves, []any{"dlv_1", "acc_1", 1}, "(delivery_id = 'dlv_1'::text)"},
		"unfinished":     {selectUnfinished, []any{"", "", 0, "", 1}, "ROW(account_id, state, create_time, delivery_id) > "},
		"expired events": {selectExpired, []any{1, 1, "acc_1", "evt_1", 1}, "(event_key <= '1'::bigint)"},
	} {
		s.requireIndex(t, name, c.text, c.args, c.want)
	}
}

// fillForPlans records so much that the planner tells one index from another.
func fillForPlans(t *testing.T, s *Postgres) {
	t.Helper()
	const events, each, webhooks = 400, 10, 100
	var entries []*recordv1.JournalEntry
	for n := range events {
		id := postrider.NewEventID()
		routed := &recordv1.Routed{MatchedTotal: each}
		for i := range each {
			webhook := fmt.Sprintf("wh_%d", (n*each+i)%webhooks)
			routed.Deliveries = append(routed.Deliveries, &recordv1.RoutedDelivery{
				DeliveryId: string(postrider.DeliveryIDFor(id, postrider.WebhookID(webhook), "")), WebhookId: webhook,
			})
		}
		entries = append(entries, &recordv1.JournalEntry{
			Time: timestamppb.Now(), AccountId: "acc_1", EventId: string(id), EventType: fmt.Sprintf("a.%d", n%5),
			What: &recordv1.JournalEntry_Routed{Routed: routed},
		})
	}
	require.NoError(t, s.Apply(t.Context(), entries))
	_, err := s.db.ExecContext(t.Context(), "ANALYZE")
	require.NoError(t, err)
}

func (p *Postgres) requireIndex(t *testing.T, name, query string, args []any, want string) {
	t.Helper()
	rows, err := p.db.QueryContext(t.Context(), "EXPLAIN "+p.bind(query), args...)
	require.NoError(t, err, name)
	defer func() { _ = rows.Close() }()
	var plan strings.Builder
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line), name)
		plan.WriteString(line + "\n")
	}
	require.NoError(t, rows.Err(), name)
	require.NotContains(t, plan.String(), "Seq Scan", name)
	found := false
	for line := range strings.Lines(plan.String()) {
		found = found || strings.Contains(line, "Index Cond") && strings.Contains(line, want)
	}
	require.True(t, found, "%s: no index condition has %s:\n%s", name, want, plan.String())
}
