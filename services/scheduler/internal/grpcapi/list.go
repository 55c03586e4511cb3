package grpcapi

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

const (
	defaultPage = 50
	maxPage     = 1000
)

// errPageFull ends a scan.
var errPageFull = errors.New("page is full")

// ListRetries lists what waits for a webhook, in the order of the stream. What is stored while
// a caller reads page after page is on the last ones.
func (s *Server) ListRetries(ctx context.Context, req *schedulerv1.ListRetriesRequest) (*schedulerv1.ListRetriesResponse, error) {
	violations := webhookFields(req)
	if req.GetPageSize() < 0 {
		violations = append(violations, fault.Violation{Field: "page_size", Rule: "must not be negative"})
	}
	from, ok := parsePageToken(req.GetPageToken())
	if !ok {
		violations = append(violations, fault.Violation{Field: "page_token", Rule: "must be the next_page_token of an earlier page"})
	}
	if err := check(violations...); err != nil {
		return nil, err
	}
	size := min(int(req.GetPageSize()), maxPage)
	if size == 0 {
		size = defaultPage
	}
	webhook := postrider.WebhookID(req.GetWebhookId())
	account := postrider.AccountID(req.GetAccountId())
	resp := &schedulerv1.ListRetriesResponse{}
	err := s.deps.Records.ScanWebhook(ctx, account, webhook, from, func(rec retrystream.Record) error {
		if len(resp.GetRetries()) == size {
			resp.NextPageToken = pageToken(retrystream.Place{Shard: rec.Shard, Sequence: rec.Sequence})
			return errPageFull
		}
		resp.Retries = append(resp.Retries, waiting(rec))
		return nil
	})
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, unavailable(err)
	}
	return resp, nil
}

func waiting(rec retrystream.Record) *schedulerv1.WaitingRetry {
	d := rec.Retry.GetDelivery()
	return &schedulerv1.WaitingRetry{
		DeliveryId: d.GetId(),
		EventId:    d.GetEventId(),
		Kind:       rec.Retry.GetKind(),
		DueTime:    rec.Retry.GetDueTime(),
		Attempts:   d.GetProgress().GetAttempts(),
		Sequence:   rec.Sequence,
		Reason:     rec.Retry.GetReason(),
	}
}

// pageToken names the first record of the next page.
func pageToken(at retrystream.Place) string {
	b := binary.AppendUvarint([]byte{pageVersion}, uint64(at.Shard)) //nolint:gosec // not negative
	return base64.RawURLEncoding.EncodeToString(binary.AppendUvarint(b, at.Sequence))
}

// pageVersion is the first byte of a token, so that a later form can be told apart.
const pageVersion = 2

func parsePageToken(token string) (at retrystream.Place, ok bool) {
	if token == "" {
		return at, true
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 3 || b[0] != pageVersion {
		return at, false
	}
	shard, n := binary.Uvarint(b[1:])
	if n <= 0 || shard >= postrider.MaxShards {
		return at, false
	}
	sequence, m := binary.Uvarint(b[1+n:])
	return retrystream.Place{Shard: int(shard), Sequence: sequence}, m > 0 && 1+n+m == len(b)
}
