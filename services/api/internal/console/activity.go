package console

import (
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// activityView is how attempts went over a time.
type activityView struct {
	Attempts            int64
	Ratio, P50, P99     string
	Rate                string
	Attempted, Latency  *chart
	succeeded, failures int64
}

// activity asks for the attempts of an account or of a webhook over one of the ranges.
func (p *page) activity(webhook, span string) (*activityView, error) {
	r, ok := ranges[span]
	if !ok {
		r = ranges["1h"]
	}
	// The step that runs is left out of no chart: what has just happened is what people look for.
	end := p.deps.Now().Truncate(r.step).Add(r.step)
	resp, err := p.api.activity.GetActivity(p.ctx, &postriderv1.GetActivityRequest{
		AccountId: p.accountID(), WebhookId: webhook, StartTime: timestamppb.New(end.Add(-r.span)), EndTime: timestamppb.New(end), Step: durationpb.New(r.step),
	})
	if err != nil {
		return nil, err
	}
	t := resp.GetTotal()
	v := &activityView{
		Attempts: t.GetSucceeded() + t.GetFailed(), Ratio: shownPercent(t.GetSucceeded(), t.GetSucceeded()+t.GetFailed()),
		P50: shownDuration(t.GetP50()), P99: shownDuration(t.GetP99()), succeeded: t.GetSucceeded(), failures: t.GetFailed(),
	}
	v.Rate = perMinute(v.Attempts, r.span)
	width := chartWidth
	if webhook != "" {
		width = wideChart
	}
	v.Attempted, v.Latency = attemptsChart(width, p.pages.words, resp.GetPoints(), v), latencyChart(p.pages.words, resp.GetPoints(), v)
	return v, nil
}

func perMinute(n int64, span time.Duration) string {
	rate := float64(n) / span.Minutes()
	if rate >= 10 || rate == 0 {
		return fmt.Sprintf("%.0f", rate)
	}
	return fmt.Sprintf("%.1f", rate)
}

// ledgerTerm is one part of where all deliveries are.
type ledgerTerm struct {
	Name  string
	Count int64
	X, W  string // place in a bar of a hundred
}

func ledgerTerms(l *postriderv1.Ledger) []ledgerTerm {
	terms := []ledgerTerm{
		{Name: "delivered", Count: l.GetDelivered()},
		{Name: "inflight", Count: l.GetInFlight()},
		{Name: "waiting", Count: l.GetWaiting()},
		{Name: "held", Count: l.GetHeld()},
		{Name: "dead", Count: l.GetDead()},
		{Name: "cancelled", Count: l.GetCancelled()},
	}
	var sum int64
	for _, t := range terms {
		sum += t.Count
	}
	at := 0.0
	for i := range terms {
		w := 0.0
		if sum > 0 {
			w = float64(terms[i].Count) / float64(sum) * 100
		}
		terms[i].X, terms[i].W = fmt.Sprintf("%.3f", at), fmt.Sprintf("%.3f", w)
		at += w
	}
	return terms
}

const overviewDeliveries = 10

// overview is the account at a glance. A part that cannot be read now is left out and says so.
func overview(p *page) error {
	recent, err := p.api.deliveries.ListDeliveries(p.ctx, &postriderv1.ListDeliveriesRequest{AccountId: p.accountID(), PageSize: overviewDeliveries})
	if err != nil && !unavailable(err) {
		return err
	}
	recentAway := err != nil
	span := p.query("range")
	if _, known := ranges[span]; !known {
		span = "1h"
	}
	activity, activityErr := p.activity("", span)
	ledger, ledgerErr := p.api.ledger.GetLedger(p.ctx, &postriderv1.GetLedgerRequest{AccountId: p.accountID()})
	names, hooks, err := p.webhookNames()
	if err != nil {
		return err
	}
	data := map[string]any{
		"Deliveries": recent.GetDeliveries(), "Names": names, "Webhooks": hooks, "Range": span, "Activity": activity, "ActivityAway": activityErr != nil,
		"LedgerAway": ledgerErr != nil, "Oldest": p.oldestWaiting(), "RecentAway": recentAway, "Log": p.logStatus(),
	}
	var unwell []*postriderv1.Webhook
	for _, w := range hooks {
		if w.GetState() != postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
			unwell = append(unwell, w)
		}
	}
	data["Unwell"] = unwell
	if ledgerErr == nil {
		data["Ledger"], data["Terms"], data["Unrecorded"] = ledger.GetLedger(), ledgerTerms(ledger.GetLedger()), ledger.GetUnrecorded()
	}
	return p.render(http.StatusOK, "overview", p.pages.words.get("nav.overview"), data)
}

// unavailable reports whether what was asked may answer later.
func unavailable(err error) bool {
	kind, ok := fault.KindOf(fault.FromStatus(err))
	return ok && kind == fault.Unavailable
}

// oldestWaiting is when the oldest delivery that has not ended was made; nil if there is none, or if it
// cannot be told now.
func (p *page) oldestWaiting() *timestamppb.Timestamp {
	var oldest *timestamppb.Timestamp
	for _, state := range []postriderv1.DeliveryState{
		postriderv1.DeliveryState_DELIVERY_STATE_WAITING, postriderv1.DeliveryState_DELIVERY_STATE_HELD, postriderv1.DeliveryState_DELIVERY_STATE_PENDING,
	} {
		resp, err := p.api.deliveries.ListDeliveries(p.ctx, &postriderv1.ListDeliveriesRequest{AccountId: p.accountID(), State: state, PageSize: 1, OldestFirst: true})
		if err != nil {
			return nil
		}
		for _, d := range resp.GetDeliveries() {
			if oldest == nil || d.GetCreateTime().AsTime().Before(oldest.AsTime()) {
				oldest = d.GetCreateTime()
			}
		}
	}
	return oldest
}
