package manage

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// maxSummarized bounds the dead letters that one summary counts.
	maxSummarized = 1_000_000
	// summaryTime bounds how long it counts.
	summaryTime = 8 * time.Second
	// summaryPage and summaryBytes are what is read at a time.
	summaryPage  = 1000
	summaryBytes = 4 << 20
	maxGroups    = 1000
)

// groupKey is what dead letters of a group have in common.
type groupKey struct{ webhook, cause, eventType string }

// SummarizeDeadLetters counts dead letters by webhook, cause and event type, from the record.
func (s *Server) SummarizeDeadLetters(ctx context.Context, req *postriderv1.SummarizeDeadLettersRequest) (*postriderv1.SummarizeDeadLettersResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if id := postrider.WebhookID(req.GetWebhookId()); id != "" && !id.Valid() {
		return nil, invalid("webhook_id", `must be "wh_" and a ULID`)
	}
	resp := &postriderv1.SummarizeDeadLettersResponse{}
	groups := make(map[groupKey]*postriderv1.DeadLetterGroup)
	until := time.Now().Add(summaryTime)
	for from := uint64(1); ; {
		page, err := s.deps.DeadLetters.Select(ctx, account, postrider.WebhookID(req.GetWebhookId()), from, summaryPage, summaryBytes)
		if err != nil {
			return nil, recordAway("dead letters", err)
		}
		if len(page) == 0 {
			break
		}
		for _, item := range page {
			s.group(resp, groups, item.Letter)
		}
		from = page[len(page)-1].Sequence + 1
		if resp.Truncated = resp.GetTotal() >= maxSummarized || time.Now().After(until); resp.GetTruncated() {
			break
		}
	}
	for _, g := range groups {
		resp.Groups = append(resp.Groups, g)
	}
	slices.SortFunc(resp.GetGroups(), func(a, b *postriderv1.DeadLetterGroup) int {
		return cmp.Or(cmp.Compare(b.GetCount(), a.GetCount()), cmp.Compare(a.GetWebhookId(), b.GetWebhookId()),
			cmp.Compare(a.GetCause(), b.GetCause()), cmp.Compare(a.GetEventType(), b.GetEventType()))
	})
	resp.Groups = resp.Groups[:min(len(resp.GetGroups()), maxGroups)]
	return resp, nil
}

func (s *Server) group(resp *postriderv1.SummarizeDeadLettersResponse, groups map[groupKey]*postriderv1.DeadLetterGroup, l *recordv1.DeadLetter) {
	d := l.GetDelivery()
	key := groupKey{d.GetWebhookId(), l.GetCause(), d.GetEventType()}
	g := groups[key]
	if g == nil {
		g = &postriderv1.DeadLetterGroup{
			WebhookId: key.webhook, Cause: key.cause, EventType: key.eventType,
			OldestTime: l.GetTime(), NewestTime: l.GetTime(), ExpireTime: s.expiry(l),
		}
		groups[key] = g
	}
	resp.Total++
	g.Count++
	if l.GetTime().AsTime().Before(g.GetOldestTime().AsTime()) {
		g.OldestTime, g.ExpireTime = l.GetTime(), s.expiry(l)
	}
	if l.GetTime().AsTime().After(g.GetNewestTime().AsTime()) {
		g.NewestTime = l.GetTime()
	}
	if t := s.expiry(l); t != nil && t.AsTime().Sub(s.deps.Now()) < s.deps.DeadLetters.MaxAge()/10 {
		resp.Expiring++
	}
}

// expiry is when a dead letter goes away, nil if never.
func (s *Server) expiry(l *recordv1.DeadLetter) *timestamppb.Timestamp {
	age := s.deps.DeadLetters.MaxAge()
	if age <= 0 || l.GetTime() == nil {
		return nil
	}
	return timestamppb.New(l.GetTime().AsTime().Add(age))
}
