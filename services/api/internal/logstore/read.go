package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const deliveryColumns = `delivery_id, replay_id, account_id, event_id, event_type, webhook_id,
	series, state, state_time, reason, next_attempt_time, create_time, attempt_count, last_status_code, last_error_class`

// A list of deliveries is selectDeliveries, a condition, newestFirst.
const (
	selectDeliveries = `SELECT ` + deliveryColumns + ` FROM deliveries WHERE `
	newestFirst      = ` ORDER BY create_time DESC, delivery_id DESC LIMIT ?`
)

// Delivery reads one delivery of the account; ErrNotFound if the log has none.
func (s *SQLite) Delivery(ctx context.Context, account postrider.AccountID, id string) (*Delivery, error) {
	row := s.read.QueryRowContext(ctx, selectDeliveries+`delivery_id = ? AND account_id = ?`, id, string(account))
	d, err := scanDelivery(row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	return d, err
}

// Deliveries reads a page of the account's deliveries, newest first.
func (s *SQLite) Deliveries(ctx context.Context, q Query) ([]*Delivery, error) {
	where, args := q.where()
	rows, err := s.read.QueryContext(ctx, selectDeliveries+where+newestFirst, append(args, q.Limit)...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var page []*Delivery
	for rows.Next() {
		d, err := scanDelivery(rows)
		if err != nil {
			return nil, err
		}
		if q.CallID == "" || strings.EqualFold(d.CallID, q.CallID) {
			page = append(page, d)
		}
	}
	return page, rows.Err()
}

// where is the condition of a query with a placeholder for each value.
//
// The planner knows no numbers, and would walk through the whole account in order of time for any
// query, because that sorts as well. A plus hides a column from it, so that it takes the index that
// finds the least: that of events, of calls, of webhooks, of time.
func (q *Query) where() (condition string, args []any) {
	visible := func(column string, best bool) string {
		if best {
			return column + " = ?"
		}
		return "+" + column + " = ?"
	}
	narrow := q.EventID != "" || q.CallID != ""
	conditions := []string{visible("account_id", !narrow && q.WebhookID == "")}
	args = []any{string(q.Account)}
	add := func(set bool, condition string, values ...any) {
		if set {
			conditions = append(conditions, condition)
			args = append(args, values...)
		}
	}
	add(q.EventID != "", "event_id = ?", q.EventID)
	add(q.WebhookID != "", visible("webhook_id", !narrow), q.WebhookID)
	add(q.EventType != "", "event_type = ?", q.EventType)
	if q.CallID != "" {
		call, _ := uuid.Parse(q.CallID) // what is no UUID is the zero one's, and no delivery has that
		from, to := postrider.DeliveryIDsOf(call)
		add(true, "delivery_id >= ? AND delivery_id < ?", string(from), string(to))
	}
	add(q.State != "", "state = ?", string(q.State))
	add(!q.Start.IsZero(), "create_time >= ?", q.Start.UnixMicro())
	add(!q.End.IsZero(), "create_time < ?", q.End.UnixMicro())
	add(q.Before.ID != "", "(create_time, delivery_id) < (?, ?)", q.Before.CreateTime.UnixMicro(), q.Before.ID)
	return strings.Join(conditions, " AND "), args
}

// Attempts reads the attempts of a delivery or a test of the account, oldest first, beginning
// after the first skip of them.
func (s *SQLite) Attempts(ctx context.Context, account postrider.AccountID, deliveryID string, skip, limit int) ([]*Attempt, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT record FROM attempts WHERE delivery_id = ? AND account_id = ?
		ORDER BY start_time, attempt_id LIMIT ? OFFSET ?`, deliveryID, string(account), limit, skip)
	if err != nil {
		return nil, fmt.Errorf("list attempts of %s: %w", deliveryID, err)
	}
	defer func() { _ = rows.Close() }()
	var page []*Attempt
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return nil, err
		}
		at := &recordv1.Attempted{}
		if err := proto.Unmarshal(raw, at); err != nil {
			return nil, fmt.Errorf("read attempt of %s: %w", deliveryID, err)
		}
		page = append(page, &Attempt{DeliveryID: deliveryID, Record: at})
	}
	return page, rows.Err()
}

type scanner interface{ Scan(dest ...any) error }

func scanDelivery(row scanner) (*Delivery, error) {
	var d Delivery
	var stateTime, next, created int64
	err := row.Scan(&d.ID, &d.ReplayID, &d.Account, &d.EventID, &d.EventType, &d.WebhookID,
		&d.Series, &d.State, &stateTime, &d.Reason, &next, &created, &d.AttemptCount, &d.LastStatusCode, &d.LastErrorClass)
	if err != nil {
		return nil, err
	}
	d.CallID = postrider.DeliveryID(d.ID).UUID().String()
	d.StateTime, d.NextAttemptTime, d.CreateTime = fromMicros(stateTime), fromMicros(next), fromMicros(created)
	return &d, nil
}
