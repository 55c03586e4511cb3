package grpcapi

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// maxCounted and countTime bound what one call reads.
const (
	maxCounted = 100_000
	countTime  = 5 * time.Second
)

// errCounted ends a count.
var errCounted = errors.New("counted enough")

// GetBacklog counts what waits for a webhook, by its records: what the index says may be behind.
func (s *Server) GetBacklog(ctx context.Context, req *schedulerv1.GetBacklogRequest) (*schedulerv1.GetBacklogResponse, error) {
	if err := check(webhookFields(req)...); err != nil {
		return nil, err
	}
	webhook := postrider.WebhookID(req.GetWebhookId())
	account := postrider.AccountID(req.GetAccountId())
	counts := map[recordv1.RetryKind]*schedulerv1.BacklogCount{}
	counted, until := 0, time.Now().Add(countTime)
	err := s.deps.Records.ScanWebhook(ctx, account, webhook, retrystream.Place{}, func(rec retrystream.Record) error {
		if counted++; counted > maxCounted || counted%1000 == 0 && time.Now().After(until) {
			return errCounted
		}
		c := counts[rec.Retry.GetKind()]
		if c == nil {
			c = &schedulerv1.BacklogCount{Kind: rec.Retry.GetKind()}
			counts[rec.Retry.GetKind()] = c
		}
		c.Count++
		c.OldestAcceptTime = earlier(c.GetOldestAcceptTime(), rec.Retry.GetDelivery().GetAcceptTime())
		c.NextDueTime = earlier(c.GetNextDueTime(), rec.Retry.GetDueTime())
		return nil
	})
	if err != nil && !errors.Is(err, errCounted) {
		return nil, unavailable(err)
	}
	resp := &schedulerv1.GetBacklogResponse{Complete: err == nil}
	for _, c := range counts {
		resp.Counts = append(resp.Counts, c)
	}
	return resp, nil
}

// earlier is the earlier of two times, of which either may be missing.
func earlier(a, b *timestamppb.Timestamp) *timestamppb.Timestamp {
	if a == nil || b != nil && b.AsTime().Before(a.AsTime()) {
		return b
	}
	return a
}
