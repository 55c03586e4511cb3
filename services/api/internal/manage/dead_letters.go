package manage

import (
	"cmp"
	"context"
	"slices"
	"strconv"
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

// ListDeadLetters lists dead letters from the record, oldest first, without their data. A page is
// short if few match: its token goes on.
func (s *Server) ListDeadLetters(ctx context.Context, req *postriderv1.ListDeadLettersRequest) (*postriderv1.ListDeadLettersResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	webhook := postrider.WebhookID(req.GetWebhookId())
	if webhook != "" && !webhook.Valid() {
		return nil, invalid("webhook_id", `must be "wh_" and a ULID`)
	}
	if !knownCause(req.GetCause()) {
		return nil, invalid("cause", ruleCause)
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	bound := []string{"dead_letters", string(account), req.GetWebhookId(), req.GetCause(), req.GetEventType()}
	place, err := parsePageToken(req.GetPageToken(), bound...)
	if err != nil {
		return nil, err
	}
	var after uint64
	if place != "" {
		if after, err = strconv.ParseUint(place, 10, 64); err != nil {
			return nil, invalid("page_token", "is not a token that a list gave")
		}
	}
	resp := &postriderv1.ListDeadLettersResponse{}
	for until := time.Now().Add(summaryTime); ; {
		items, err := s.deps.DeadLetters.List(ctx, account, webhook, after, size+1)
		if err != nil {
			return nil, recordAway("dead letters", err)
		}
		for _, item := range items {
			matches := (req.GetCause() == "" || req.GetCause() == item.Letter.GetCause()) &&
				(req.GetEventType() == "" || req.GetEventType() == item.Letter.GetDelivery().GetEventType())
			if matches && len(resp.GetDeadLetters()) == size {
				resp.NextPageToken = pageToken(strconv.FormatUint(after, 10), bound...)
				return resp, nil
			}
			if matches {
				resp.DeadLetters = append(resp.DeadLetters, s.shownDeadLetter(item.Letter, item.Sequence))
			}
			after = item.Sequence
		}
		if len(items) <= size {
			return resp, nil
		}
		if time.Now().After(until) {
			resp.NextPageToken = pageToken(strconv.FormatUint(after, 10), bound...)
			return resp, nil
		}
	}
}

// ruleCause is what knownCause demands.
const ruleCause = `must be "exhausted", "permanent" or "expired"`

// knownCause reports whether dead letters may have the cause; the empty one selects all.
func knownCause(cause string) bool {
	return slices.Contains([]string{"", "exhausted", "permanent", "expired"}, cause)
}

// expiry is when a dead letter goes away, nil if never.
func (s *Server) expiry(l *recordv1.DeadLetter) *timestamppb.Timestamp {
	age := s.deps.DeadLetters.MaxAge()
	if age <= 0 || l.GetTime() == nil {
		return nil
	}
	return timestamppb.New(l.GetTime().AsTime().Add(age))
}
