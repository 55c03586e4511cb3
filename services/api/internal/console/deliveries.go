package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// deliveryFilters are the filters of the list, all of which stand in its address.
var deliveryFilters = []string{"state", "webhook", "type", "event", "call", "outcome", "status", "from", "to"}

func (p *page) deliveryQuery() (*postriderv1.ListDeliveriesRequest, error) {
	req := &postriderv1.ListDeliveriesRequest{
		AccountId: p.accountID(), WebhookId: p.query("webhook"), EventType: p.query("type"), EventId: p.query("event"), CallId: p.query("call"),
		Outcome: p.query("outcome"), PageToken: p.query("page"),
	}
	if s := p.query("status"); s != "" {
		n, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return nil, fault.InvalidFields(fault.Violation{Field: "status", Rule: "must be an HTTP status such as 503"})
		}
		req.StatusCode = int32(n)
	}
	if s := p.query("state"); s != "" {
		n, ok := postriderv1.DeliveryState_value["DELIVERY_STATE_"+strings.ToUpper(s)]
		if !ok {
			return nil, fault.InvalidFields(fault.Violation{Field: "state", Rule: "must be a known state"})
		}
		req.State = postriderv1.DeliveryState(n)
	}
	var err1, err2 error
	req.StartTime, err1 = p.moment("from")
	req.EndTime, err2 = p.moment("to")
	return req, errors.Join(err1, err2)
}

// fieldTime is how a field for times has one, in UTC.
const fieldTime = "2006-01-02T15:04"

// momentField is a time of the address as a field for times shows it; empty if there is none.
func (p *page) momentField(name string) string {
	t, err := p.moment(name)
	if err != nil || t == nil {
		return ""
	}
	return t.AsTime().Format(fieldTime)
}

// moment reads a time from the address: as a form for times writes it, in UTC, or in RFC 3339.
func (p *page) moment(name string) (*timestamppb.Timestamp, error) {
	text := p.query(name)
	if text == "" {
		return nil, nil //nolint:nilnil // absent is no error
	}
	for _, layout := range []string{time.RFC3339, fieldTime, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, fault.InvalidFields(fault.Violation{Field: name, Rule: "must be a time such as 2026-01-31T18:00"})
}

var (
	deliveryStates   = []string{"pending", "waiting", "held", "delivered", "dead", "cancelled"}
	deliveryOutcomes = []string{"succeeded", "retryable", "permanent", "gone"}
)

func listDeliveries(p *page) error {
	req, err := p.deliveryQuery()
	if err != nil {
		return err
	}
	resp, err := p.api.deliveries.ListDeliveries(p.ctx, req)
	if err != nil {
		return err
	}
	names, hooks, err := p.webhookNames()
	if err != nil {
		return err
	}
	values := make(map[string]string)
	filtered := false
	for _, name := range deliveryFilters {
		values[name] = p.query(name)
		filtered = filtered || values[name] != ""
	}
	values["from"], values["to"] = p.momentField("from"), p.momentField("to")
	return p.render(http.StatusOK, "deliveries", p.pages.words.get("nav.deliveries"), map[string]any{
		"Deliveries": resp.GetDeliveries(), "Names": names, "Webhooks": hooks, "Values": values, "Filtered": filtered, "States": deliveryStates, "Outcomes": deliveryOutcomes,
		"Pager": p.pagerOf(resp.GetNextPageToken()), "Tail": p.base + "deliveries/tail?" + p.r.URL.RawQuery, "Live": p.query("page") == "" && p.query("to") == "",
	})
}

const (
	tailTick = time.Second
	tailPage = 50
	// tailLife is how long one request tails; the browser asks again by itself.
	tailLife = 10 * time.Minute
)

// tailDeliveries sends the list's rows as they change, as server-sent events. It reads the log as the
// list does, with the reader's credential: a key that is revoked ends it.
func tailDeliveries(p *page) error {
	req, err := p.deliveryQuery()
	if err != nil {
		return err
	}
	req.PageSize = tailPage
	select {
	case p.tails <- struct{}{}:
		defer func() { <-p.tails }()
	default:
		return fault.New(fault.Exhausted, "TAILS_EXHAUSTED", "too many live lists are being read; load the page anew instead").WithRetryAfter(time.Minute)
	}
	names, _, err := p.webhookNames()
	if err != nil {
		return err
	}
	p.w.Header().Set("Content-Type", "text/event-stream")
	p.w.Header().Set("X-Accel-Buffering", "no")
	flow := http.NewResponseController(p.w)
	if err := flow.Flush(); err != nil {
		return err
	}
	seen := make(map[string]string)
	tick, end := time.NewTicker(tailTick), time.NewTimer(tailLife)
	defer tick.Stop()
	defer end.Stop()
	for first := true; ; first = false {
		resp, err := p.api.deliveries.ListDeliveries(p.ctx, req)
		if err != nil {
			return nil // the answer has begun: the browser asks again, and is told then
		}
		if err := p.sendRows(resp.GetDeliveries(), names, seen, first); err != nil {
			return nil // the reader has gone
		}
		if err := flow.Flush(); err != nil {
			return nil // the reader has gone
		}
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			return nil
		case <-end.C:
			return nil
		case <-p.ended:
			return nil
		}
	}
}

// sendRows sends the rows that are new or have changed, the oldest first. Of the first look nothing is
// sent but what differs from the page that the reader has: all of it, which replaces the same rows.
func (p *page) sendRows(list []*postriderv1.Delivery, names, seen map[string]string, first bool) error {
	for _, d := range slices.Backward(list) {
		mark := fmt.Sprint(d.GetState(), d.GetUpdateTime().AsTime().UnixNano(), d.GetAttemptCount())
		if seen[d.GetId()] == mark {
			continue
		}
		seen[d.GetId()] = mark
		row, err := p.fragment("deliveries", "row", map[string]any{"Delivery": d, "Names": names})
		if err != nil {
			return err
		}
		row = strings.Join(strings.Fields(row), " ")
		if _, err := fmt.Fprintf(p.w, "event: row\ndata: %s\n\n", row); err != nil {
			return err
		}
	}
	if first {
		return nil
	}
	_, err := fmt.Fprint(p.w, ": still here\n\n")
	return err
}

// showDelivery is one delivery with its attempts. A test is no delivery, but has an attempt.
func showDelivery(p *page) error {
	id := p.r.PathValue("delivery")
	attempts, err := p.api.deliveries.ListAttempts(p.ctx, &postriderv1.ListAttemptsRequest{AccountId: p.accountID(), DeliveryId: id, PageSize: 200})
	if err != nil {
		return err
	}
	d, err := p.api.deliveries.GetDelivery(p.ctx, &postriderv1.GetDeliveryRequest{AccountId: p.accountID(), DeliveryId: id})
	if e, ok := fault.As(fault.FromStatus(err)); err != nil && (!ok || e.Kind != fault.NotFound || len(attempts.GetAttempts()) == 0) {
		return err
	}
	names, _, err := p.webhookNames()
	if err != nil {
		return err
	}
	list := attempts.GetAttempts()
	data := map[string]any{"Delivery": d.GetDelivery(), "ID": id, "Attempts": p.attemptViews(list), "Names": names, "Gone": p.expunged(id)}
	if len(list) > 1 {
		data["A"], data["B"] = list[len(list)-2].GetId(), list[len(list)-1].GetId()
	}
	return p.render(http.StatusOK, "delivery", p.pages.words.get("delivery"), data)
}

// expunged reports whether the payload of a delivery's event was removed on request; not if nobody can
// tell now.
func (p *page) expunged(delivery string) bool {
	resp, err := p.api.log.GetFlightRecord(p.ctx, &postriderv1.GetFlightRecordRequest{AccountId: p.accountID(), Id: delivery})
	return err == nil && resp.GetRecord().GetEvent().GetExpungeTime() != nil
}

func retryDelivery(p *page) error {
	id := p.r.PathValue("delivery")
	resp, err := p.api.deliveries.RetryDelivery(p.ctx, &postriderv1.RetryDeliveryRequest{AccountId: p.accountID(), DeliveryId: id})
	if err != nil {
		return err
	}
	say := p.ok("delivery.retried.good")
	if resp.GetAttempt().GetOutcome() != "succeeded" {
		say = flash{Kind: "bad", Text: p.pages.words.get("delivery.retried.bad", p.pages.words.or("class."+resp.GetAttempt().GetErrorClass(), resp.GetAttempt().GetErrorClass()))}
	}
	return p.redirect("deliveries/"+id, say)
}

func cancelDelivery(p *page) error {
	id := p.r.PathValue("delivery")
	if _, err := p.api.deliveries.CancelDelivery(p.ctx, &postriderv1.CancelDeliveryRequest{AccountId: p.accountID(), DeliveryId: id}); err != nil {
		return err
	}
	return p.redirect("deliveries/"+id, p.ok("delivery.cancelled"))
}
