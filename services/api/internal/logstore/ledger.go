package logstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// Counts is how many deliveries of an account the log has.
type Counts struct {
	// Routed were named by an entry of routing.
	Routed int64
	// In each state.
	In map[postrider.DeliveryState]int64
}

// routedTerm is the ledger's term that is no state.
const routedTerm = "routed"

// Ledger reads counters that were kept with the rows.
func (r *reader) Ledger(ctx context.Context) (map[postrider.AccountID]Counts, error) {
	ledger := make(map[postrider.AccountID]Counts)
	err := r.query(ctx, `SELECT account_id, term, SUM(count) FROM ledger GROUP BY account_id, term`, nil, func(row scanner) error {
		var account, term string
		var n int64
		if err := row.Scan(&account, &term, &n); err != nil {
			return err
		}
		c := ledger[postrider.AccountID(account)]
		if c.In == nil {
			c.In = make(map[postrider.DeliveryState]int64)
		}
		if term == routedTerm {
			c.Routed = n
		} else {
			c.In[postrider.DeliveryState(term)] = n
		}
		ledger[postrider.AccountID(account)] = c
		return nil
	})
	return ledger, wrap(err, "count deliveries")
}

// Standing is where the log sees a delivery.
type Standing struct {
	ID, Account, Event, Webhook string
	Series                      int32
	State                       postrider.DeliveryState
	StateTime                   time.Time
	Attempts                    int
	Routed                      bool

	stateTime int64
}

const standingColumns = `delivery_id, account_id, event_id, webhook_id, series, state, state_time, attempt_count, routed`

// maxIDs is how many ids one query may name.
const maxIDs = 500

// Standings reads some hundred at a time.
func (r *reader) Standings(ctx context.Context, ids []string) (map[string]*Standing, error) {
	found := make(map[string]*Standing, len(ids))
	for part := range slices.Chunk(ids, maxIDs) {
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id
		}
		query := `SELECT ` + standingColumns + ` FROM deliveries WHERE delivery_id IN ` + placeholders(len(part))
		err := r.query(ctx, query, args, func(row scanner) error {
			st, err := scanStanding(row)
			if err == nil {
				found[st.ID] = st
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look %d deliveries up: %w", len(ids), err)
		}
	}
	return found, nil
}

// Events reads some hundred at a time.
func (r *reader) Events(ctx context.Context, owners map[string]string) (map[string]bool, error) {
	found := make(map[string]bool, len(owners))
	for part := range slices.Chunk(slices.Sorted(maps.Keys(owners)), maxIDs) {
		args := make([]any, 0, 4*len(part))
		for _, id := range part {
			args = append(args, textKey(owners[id]), eventKey(id), owners[id], id)
		}
		asked := strings.TrimSuffix(strings.Repeat("(CAST(? AS INTEGER), CAST(? AS BIGINT), ?, ?), ", len(part)), ", ")
		err := r.query(ctx, selectKnown+`(VALUES `+asked+`)`, args, func(row scanner) error {
			var id string
			err := row.Scan(&id)
			found[id] = true
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("look %d events up: %w", len(owners), err)
		}
	}
	return found, nil
}

const selectKnown = `SELECT event_id FROM events WHERE (account_key, event_key, account_id, event_id) IN `

// placeholders is a list of n values.
func placeholders(n int) string { return `(?` + strings.Repeat(`, ?`, n-1) + `)` }

// unfinishedPage is how many rows Unfinished reads at a time.
const unfinishedPage = 4096

const selectUnfinished = `SELECT ` + standingColumns + `, create_time FROM deliveries
	WHERE ` + notDelivered + ` AND (account_id, state, create_time, delivery_id) > (?, ?, ?, ?)
	ORDER BY account_id, state, create_time, delivery_id LIMIT ?`

// Unfinished reads page after page, so that it holds no transaction open for long.
func (r *reader) Unfinished(ctx context.Context, diedSince time.Time, fn func(*Standing) error) error {
	last, created := &Standing{}, int64(0)
	for n := unfinishedPage; n == unfinishedPage; {
		n = 0
		args := []any{last.Account, string(last.State), created, last.ID, unfinishedPage}
		err := r.query(ctx, selectUnfinished, args, func(row scanner) error {
			st, err := scanStanding(row, &created)
			if err != nil {
				return err
			}
			n, last = n+1, st
			if st.State.Ended() && (st.State != postrider.Dead || st.StateTime.Before(diedSince)) {
				return nil
			}
			return fn(st)
		})
		if err != nil {
			return fmt.Errorf("walk deliveries: %w", err)
		}
	}
	return nil
}

func scanStanding(row scanner, more ...any) (*Standing, error) {
	var st Standing
	err := row.Scan(append([]any{&st.ID, &st.Account, &st.Event, &st.Webhook, &st.Series, &st.State, &st.stateTime, &st.Attempts, &st.Routed}, more...)...)
	st.StateTime = fromMicros(st.stateTime)
	return &st, err
}

// Unrecorded compares what the entries say with the rows.
func (r *reader) Unrecorded(ctx context.Context, entries []*recordv1.JournalEntry) (deliveries, events []Standing, err error) {
	b, err := batchOf(entries)
	if err != nil {
		return nil, nil, err
	}
	g := b.facts
	rows, err := r.Standings(ctx, slices.Sorted(maps.Keys(g.deliveries)))
	if err != nil {
		return nil, nil, err
	}
	for _, f := range ordered(g.deliveries) {
		if !f.within(rows[f.deliveryID]) {
			deliveries = append(deliveries, Standing{ID: f.deliveryID, Account: f.account, Event: f.event, Webhook: f.webhookID})
		}
	}
	owners := make(map[string]string, len(g.events))
	for id, f := range g.events {
		owners[id] = f.account
	}
	known, err := r.Events(ctx, owners)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range ordered(g.events) {
		if !known[f.id] {
			events = append(events, Standing{Event: f.id, Account: f.account})
		}
	}
	return deliveries, events, nil
}
