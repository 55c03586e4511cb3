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
	filter := retrystream.Filter{Account: postrider.AccountID(req.GetAccountId()), Webhook: webhook}
	resp := &schedulerv1.ListRetriesResponse{}
	err := s.deps.Records.Scan(ctx, postrider.ShardOf(webhook, s.deps.Records.Shards()), filter, from, func(rec retrystream.Record) error {
		if len(resp.GetRetries()) == size {
			resp.NextPageToken = pageToken(rec.Sequence)
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
func pageToken(sequence uint64) string {
	return base64.RawURLEncoding.EncodeToString(binary.AppendUvarint([]byte{pageVersion}, sequence))
}

// pageVersion is the first byte of a token, so that a later form can be told apart.
const pageVersion = 1

func parsePageToken(token string) (sequence uint64, ok bool) {
	if token == "" {
		return 0, true
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 2 || b[0] != pageVersion {
		return 0, false
	}
	sequence, n := binary.Uvarint(b[1:])
	return sequence, n == len(b)-1
}
