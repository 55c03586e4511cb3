package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/logstore"
)

const (
	// pageEvents and pageBytes bound what is read at a time.
	pageEvents = 256
	pageBytes  = 2 << 20
	// maxPages bounds what is read for one batch, so that a job that finds little still writes down
	// how far it is.
	maxPages = 16
	// acceptSkew is how far behind the time of its acceptance an event may be stored.
	acceptSkew = 5 * time.Minute
	// maxOfEvent bounds the deliveries of one event that are looked at by state.
	maxOfEvent = 10_000
)

// plan is the next batch of a job.
type plan struct {
	items      []*recordv1.JobItem
	deliveries int    // in items
	selected   int64  // events or dead letters
	skipped    int64  // selected by name, and not there
	next       uint64 // where the selection goes on
}

// plan selects the next batch, of about limit deliveries: an event is never split.
func (r *Runner) plan(ctx context.Context, j *recordv1.Job, limit int) (plan, error) {
	switch sel := j.GetReplay().GetSelection().(type) {
	case *postriderv1.Replay_Events:
		return r.planEvents(ctx, j, sel.Events, limit)
	case *postriderv1.Replay_DeadLetters:
		if len(sel.DeadLetters.GetDeliveryIds()) > 0 {
			return r.planNamed(ctx, j, sel.DeadLetters, limit)
		}
		return r.planLetters(ctx, j, sel.DeadLetters, limit)
	}
	return plan{}, errors.New("the job selects what this version does not know")
}

func (r *Runner) planEvents(ctx context.Context, j *recordv1.Job, sel *postriderv1.EventSelection, limit int) (plan, error) {
	p := plan{next: j.GetNextSequence()}
	wanted, err := newEventFilter(sel)
	if err != nil {
		return p, err
	}
	for range maxPages {
		page, err := r.deps.Events.Select(ctx, eventstream.Selection{
			Account: postrider.AccountID(j.GetReplay().GetAccountId()), From: p.next, Limit: pageEvents, Bytes: pageBytes,
		})
		if err != nil {
			return p, err
		}
		if len(page) == 0 {
			p.next = j.GetLastSequence() + 1
			return p, nil
		}
		var picked []eventstream.Selected
		for _, each := range page {
			if each.Sequence <= j.GetLastSequence() && wanted.match(each.Event) {
				picked = append(picked, each)
			}
		}
		targets, err := r.targets(ctx, j, sel, picked)
		if err != nil {
			return p, err
		}
		for i, each := range picked {
			if len(targets[i]) > 0 && p.deliveries > 0 && p.deliveries+len(targets[i]) > limit {
				p.next = each.Sequence
				return p, nil
			}
			p.selected++
			if len(targets[i]) > 0 {
				p.items = append(p.items, &recordv1.JobItem{Sequence: each.Sequence, WebhookIds: targets[i]})
				p.deliveries += len(targets[i])
			}
		}
		last := page[len(page)-1]
		p.next = last.Sequence + 1
		if p.next > j.GetLastSequence() || wanted.past(last.Event) {
			p.next = j.GetLastSequence() + 1
			return p, nil
		}
	}
	return p, nil
}

// eventFilter is what an event has to be.
type eventFilter struct {
	id         string
	start, end time.Time
	patterns   []match.Pattern
}

func newEventFilter(sel *postriderv1.EventSelection) (*eventFilter, error) {
	f := &eventFilter{id: sel.GetEventId()}
	if t := sel.GetStartTime(); t != nil {
		f.start = t.AsTime()
	}
	if t := sel.GetEndTime(); t != nil {
		f.end = t.AsTime()
	}
	for _, text := range sel.GetEventTypes() {
		pattern, err := match.ParsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("event type pattern %q: %w", text, err)
		}
		f.patterns = append(f.patterns, pattern)
	}
	return f, nil
}

func (f *eventFilter) match(ev *recordv1.Event) bool {
	accepted := ev.GetAcceptTime().AsTime()
	switch {
	case f.id != "" && ev.GetId() != f.id,
		!f.start.IsZero() && accepted.Before(f.start),
		!f.end.IsZero() && !accepted.Before(f.end):
		return false
	}
	return len(f.patterns) == 0 || slices.ContainsFunc(f.patterns, func(p match.Pattern) bool { return p.Match(ev.GetType()) })
}

// past says whether all that comes after the event was accepted too late.
func (f *eventFilter) past(ev *recordv1.Event) bool {
	return !f.end.IsZero() && ev.GetAcceptTime().AsTime().After(f.end.Add(acceptSkew))
}

// targets is the webhooks that get each of the events.
func (r *Runner) targets(ctx context.Context, j *recordv1.Job, sel *postriderv1.EventSelection, picked []eventstream.Selected) ([][]string, error) {
	if len(picked) == 0 {
		return nil, nil
	}
	if sel.GetState() != postriderv1.DeliveryState_DELIVERY_STATE_UNSPECIFIED {
		return r.targetsByState(ctx, j, sel, picked)
	}
	req := &routerv1.MatchEventsRequest{AccountId: j.GetReplay().GetAccountId()}
	for _, each := range picked {
		req.Events = append(req.Events, each.Event)
	}
	resp, err := r.deps.Router.MatchEvents(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(resp.GetMatches()) != len(picked) {
		return nil, errors.New("the router did not answer for every event")
	}
	out := make([][]string, len(picked))
	for i, m := range resp.GetMatches() {
		for _, id := range m.GetWebhookIds() {
			if sel.GetWebhookId() == "" || sel.GetWebhookId() == id {
				out[i] = append(out[i], id)
			}
		}
	}
	return out, nil
}

// states are the log's words for those of the API.
var states = map[postriderv1.DeliveryState]postrider.DeliveryState{
	postriderv1.DeliveryState_DELIVERY_STATE_PENDING:   postrider.Pending,
	postriderv1.DeliveryState_DELIVERY_STATE_WAITING:   postrider.Waiting,
	postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED: postrider.Delivered,
	postriderv1.DeliveryState_DELIVERY_STATE_DEAD:      postrider.Dead,
	postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED: postrider.Cancelled,
	postriderv1.DeliveryState_DELIVERY_STATE_HELD:      postrider.Held,
}

// targetsByState is the webhooks whose deliveries of the events, as routing made them, are in a
// state. Webhooks that are gone get none.
func (r *Runner) targetsByState(ctx context.Context, j *recordv1.Job, sel *postriderv1.EventSelection, picked []eventstream.Selected) ([][]string, error) {
	account := j.GetReplay().GetAccountId()
	live := make(map[string]bool)
	out := make([][]string, len(picked))
	for i, each := range picked {
		list, err := r.deps.Log.Deliveries(ctx, logstore.Query{
			Account: postrider.AccountID(account), EventID: each.Event.GetId(), WebhookID: sel.GetWebhookId(), State: states[sel.GetState()], Limit: maxOfEvent,
		})
		if err != nil {
			return nil, fmt.Errorf("read the delivery log: %w", err)
		}
		for _, d := range list {
			if d.ReplayID != "" {
				continue
			}
			alive, known := live[d.WebhookID]
			if !known {
				if alive, err = r.alive(ctx, account, d.WebhookID); err != nil {
					return nil, err
				}
				live[d.WebhookID] = alive
			}
			if alive {
				out[i] = append(out[i], d.WebhookID)
			}
		}
	}
	return out, nil
}

func (r *Runner) alive(ctx context.Context, account, webhook string) (bool, error) {
	rec, _, err := r.deps.Jobs.GetWebhook(ctx, account, webhook)
	if errors.Is(err, config.ErrNotFound) {
		return false, nil
	}
	return err == nil && rec.GetWebhook().GetState() != postriderv1.WebhookState_WEBHOOK_STATE_DELETED, err
}

func (r *Runner) planLetters(ctx context.Context, j *recordv1.Job, sel *postriderv1.DeadLetterSelection, limit int) (plan, error) {
	p := plan{next: j.GetNextSequence()}
	for range maxPages {
		page, err := r.deps.Letters.Select(ctx, postrider.AccountID(j.GetReplay().GetAccountId()), postrider.WebhookID(sel.GetWebhookId()), p.next, pageEvents, pageBytes)
		if err != nil {
			return p, err
		}
		if len(page) == 0 {
			p.next = j.GetLastSequence() + 1
			return p, nil
		}
		for _, each := range page {
			if each.Sequence > j.GetLastSequence() {
				p.next = j.GetLastSequence() + 1
				return p, nil
			}
			if p.next = each.Sequence; p.deliveries == limit {
				return p, nil
			}
			if letterWanted(sel, each.Letter) {
				p.add(each)
			}
			p.next = each.Sequence + 1
		}
	}
	return p, nil
}

func (p *plan) add(item deadletterstream.Item) {
	p.items = append(p.items, &recordv1.JobItem{Sequence: item.Sequence})
	p.deliveries++
	p.selected++
}

// planNamed looks the named deliveries up: the job's sequences are places in its list, from 1.
func (r *Runner) planNamed(ctx context.Context, j *recordv1.Job, sel *postriderv1.DeadLetterSelection, limit int) (plan, error) {
	p := plan{next: j.GetNextSequence()}
	for ; p.next <= uint64(len(sel.GetDeliveryIds())) && p.deliveries < limit; p.next++ {
		id := postrider.DeliveryID(sel.GetDeliveryIds()[p.next-1])
		letter, sequence, err := r.deps.Letters.Get(ctx, postrider.AccountID(j.GetReplay().GetAccountId()), id)
		if errors.Is(err, deadletterstream.ErrNotFound) {
			p.skipped++
			continue
		}
		if err != nil {
			return p, err
		}
		if letterWanted(sel, letter) {
			p.add(deadletterstream.Item{Sequence: sequence, Letter: letter})
		}
	}
	return p, nil
}

func letterWanted(sel *postriderv1.DeadLetterSelection, l *recordv1.DeadLetter) bool {
	d, died := l.GetDelivery(), l.GetTime().AsTime()
	switch {
	case sel.GetWebhookId() != "" && sel.GetWebhookId() != d.GetWebhookId(),
		sel.GetCause() != "" && sel.GetCause() != l.GetCause(),
		sel.GetEventType() != "" && sel.GetEventType() != d.GetEventType(),
		sel.GetStartTime() != nil && died.Before(sel.GetStartTime().AsTime()),
		sel.GetEndTime() != nil && !died.Before(sel.GetEndTime().AsTime()):
		return false
	}
	return true
}
