package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func listEvents(p *page) error {
	from, err1 := p.moment("from")
	to, err2 := p.moment("to")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	resp, err := p.api.log.ListRecordedEvents(p.ctx, &postriderv1.ListRecordedEventsRequest{
		AccountId: p.accountID(), PageToken: p.query("page"), EventType: p.query("type"), StartTime: from, EndTime: to, UnmatchedOnly: p.query("unmatched") != "",
	})
	if err != nil {
		return err
	}
	return p.render(http.StatusOK, "events", p.pages.words.get("nav.events"), map[string]any{
		"Events": resp.GetEvents(), "Pager": p.pagerOf(resp.GetNextPageToken()), "Type": p.query("type"), "From": p.momentField("from"), "To": p.momentField("to"),
		"Unmatched": p.query("unmatched") != "", "Filtered": p.r.URL.RawQuery != "", "Live": p.query("page") == "",
	})
}

// showEvent is the flight recorder: everything that happened to one event. What is masked is shown
// only on request, and only to who may see it.
func showEvent(p *page) error { return p.event(http.StatusOK, nil) }

// event shows one; refused is why what was asked of it was not done.
func (p *page) event(status int, refused *fault.Error) error {
	reveal := p.query("reveal") != ""
	resp, err := p.api.log.GetFlightRecord(p.ctx, &postriderv1.GetFlightRecordRequest{AccountId: p.accountID(), Id: p.r.PathValue("event"), Reveal: reveal})
	if err != nil {
		return err
	}
	names, _, err := p.webhookNames()
	if err != nil {
		return err
	}
	rec := resp.GetRecord()
	open := false
	flights := make([]flight, len(rec.GetDeliveries()))
	for i, d := range rec.GetDeliveries() {
		flights[i] = newFlight(d)
		open = open || !ended(d.GetDelivery().GetState())
	}
	return p.render(status, "event", rec.GetEvent().GetType(), map[string]any{
		"Refused": refused, "Record": rec, "Flights": flights, "Names": names, "Open": open, "Reveal": reveal,
	})
}

func ended(s postriderv1.DeliveryState) bool {
	return s == postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED || s == postriderv1.DeliveryState_DELIVERY_STATE_DEAD ||
		s == postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED
}

// flight is what happened to one delivery.
type flight struct {
	*postriderv1.DeliveryFlight
	Steps []flightStep
	Open  bool
}

// flightStep is an attempt or a change of state.
type flightStep struct {
	*postriderv1.FlightStep
	Try *attemptView
}

func newFlight(d *postriderv1.DeliveryFlight) flight {
	f := flight{DeliveryFlight: d, Open: !ended(d.GetDelivery().GetState())}
	for _, s := range d.GetSteps() {
		step := flightStep{FlightStep: s}
		if a := s.GetAttempt(); a != nil {
			v := newAttemptView(a)
			step.Try = &v
		}
		f.Steps = append(f.Steps, step)
	}
	return f
}

func cancelEvent(p *page) error {
	id := p.r.PathValue("event")
	resp, err := p.api.deliveries.CancelEvent(p.ctx, &postriderv1.CancelEventRequest{AccountId: p.accountID(), EventId: id})
	if err != nil {
		return err
	}
	return p.redirect("events/"+id, p.ok("event.cancelled", resp.GetRemoved()+resp.GetMarked()))
}

// expungeEvent removes what an event held, for good. What the API refuses stands on the event's page:
// a delivery that has not ended can be cancelled there, and what is too fresh can be asked again.
func expungeEvent(p *page) error {
	id := p.r.PathValue("event")
	resp, err := p.api.log.ExpungeEvent(p.ctx, &postriderv1.ExpungeEventRequest{AccountId: p.accountID(), EventId: id})
	if e, ok := fault.As(fault.FromStatus(err)); ok && (e.Kind == fault.Precondition || e.Kind == fault.Unavailable) {
		return p.event(e.Kind.HTTP(), e)
	}
	if err != nil {
		return err
	}
	return p.redirect("events/"+id, p.ok("event.expunge.done", resp.GetDeadLettersRemoved(), resp.GetAttemptsRedacted()))
}

// search takes any id and goes to what has it; if several have, it lists them.
func search(p *page) error {
	text := p.query("q")
	if text == "" {
		return p.render(http.StatusOK, "search", p.pages.words.get("search.title"), map[string]any{"Q": ""})
	}
	resp, err := p.api.log.LookUp(p.ctx, &postriderv1.LookUpRequest{AccountId: p.accountID(), Id: text})
	if e, ok := fault.As(fault.FromStatus(err)); ok && (e.Kind == fault.NotFound || e.Kind == fault.Invalid) {
		return p.render(http.StatusNotFound, "search", p.pages.words.get("search.title"), map[string]any{"Q": text})
	}
	if err != nil {
		return err
	}
	if len(resp.GetMatches()) == 1 {
		http.Redirect(p.w, p.r, p.base+matchPath(resp.GetMatches()[0]), http.StatusSeeOther)
		return nil
	}
	matches := make([]match, len(resp.GetMatches()))
	for i, m := range resp.GetMatches() {
		matches[i] = match{m, p.base + matchPath(m), p.pages.words.get("kind.of." + strings.ToLower(strings.TrimPrefix(m.GetKind().String(), "LOOK_UP_KIND_")))}
	}
	return p.render(http.StatusOK, "search", p.pages.words.get("search.title"), map[string]any{"Q": text, "Matches": matches})
}

// match is one thing that an id may be.
type match struct {
	*postriderv1.LookUpMatch
	Href, What string
}

// matchPath is the page of what was found.
func matchPath(m *postriderv1.LookUpMatch) string {
	switch m.GetKind() {
	case postriderv1.LookUpKind_LOOK_UP_KIND_WEBHOOK:
		return "webhooks/" + url.PathEscape(m.GetWebhookId())
	case postriderv1.LookUpKind_LOOK_UP_KIND_REPLAY:
		return "replays/" + url.PathEscape(m.GetReplayId())
	case postriderv1.LookUpKind_LOOK_UP_KIND_DELIVERY, postriderv1.LookUpKind_LOOK_UP_KIND_CALL:
		return "deliveries/" + url.PathEscape(m.GetDeliveryId())
	case postriderv1.LookUpKind_LOOK_UP_KIND_ATTEMPT:
		return "deliveries/" + url.PathEscape(m.GetDeliveryId()) + "#" + url.PathEscape(m.GetAttemptId())
	case postriderv1.LookUpKind_LOOK_UP_KIND_EVENT, postriderv1.LookUpKind_LOOK_UP_KIND_IDEMPOTENCY_KEY, postriderv1.LookUpKind_LOOK_UP_KIND_GIVEN_ID,
		postriderv1.LookUpKind_LOOK_UP_KIND_TRACE, postriderv1.LookUpKind_LOOK_UP_KIND_UNSPECIFIED:
	}
	return "events/" + url.PathEscape(m.GetEventId())
}
