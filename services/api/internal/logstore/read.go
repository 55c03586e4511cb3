package logstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

const deliveryColumns = `delivery_id, call_id, replay_id, account_id, event_id, event_type, webhook_id,
	state, state_time, reason, next_attempt_time, create_time, attempt_count, last_status_code, last_error_class`

// Delivery reads one delivery of the account; ErrNotFound if the log has none.
func (s *SQLite) Delivery(ctx context.Context, account postrider.AccountID, id string) (*Delivery, error) {
	row := s.read.QueryRowContext(ctx, `SELECT `+deliveryColumns+` FROM deliveries WHERE delivery_id = ? AND account_id = ?`, id, string(account))
	d, err := scanDelivery(row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNotFound
	}
	return d, err
}

// Deliveries reads a page of the account's deliveries, newest first.
func (s *SQLite) Deliveries(ctx context.Context, q Query) ([]*Delivery, error) {
	where, args := q.where()
	text := `SELECT ` + deliveryColumns + ` FROM deliveries WHERE ` + where + //nolint:gosec // where holds placeholders only
		` ORDER BY create_time DESC, delivery_id DESC LIMIT ?`
	rows, err := s.read.QueryContext(ctx, text, append(args, q.Limit)...)
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
		page = append(page, d)
	}
	return page, rows.Err()
}

// where is the condition of a query with a placeholder for each value.
func (q *Query) where() (condition string, args []any) {
	conditions := []string{"account_id = ?"}
	args = []any{string(q.Account)}
	add := func(set bool, condition string, values ...any) {
		if set {
			conditions = append(conditions, condition)
			args = append(args, values...)
		}
	}
	add(q.EventID != "", "event_id = ?", q.EventID)
	add(q.WebhookID != "", "webhook_id = ?", q.WebhookID)
	add(q.EventType != "", "event_type = ?", q.EventType)
	add(q.CallID != "", "call_id = ?", q.CallID)
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
	err := row.Scan(&d.ID, &d.CallID, &d.ReplayID, &d.Account, &d.EventID, &d.EventType, &d.WebhookID,
		&d.State, &stateTime, &d.Reason, &next, &created, &d.AttemptCount, &d.LastStatusCode, &d.LastErrorClass)
	if err != nil {
		return nil, err
	}
	d.StateTime, d.NextAttemptTime, d.CreateTime = fromMicros(stateTime), fromMicros(next), fromMicros(created)
	return &d, nil
}
