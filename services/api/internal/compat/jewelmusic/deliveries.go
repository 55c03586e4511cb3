package jewelmusic

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// maxWalk is how many deliveries a request reads at most.
	maxWalk = 10_000
	// testEvent is what the SDKs send if they are not told what.
	testEvent = "webhook.test"
)

// statuses are the words of this API for the states of deliveries.
var statuses = map[postriderv1.DeliveryState]string{
	postriderv1.DeliveryState_DELIVERY_STATE_PENDING:   "pending",
	postriderv1.DeliveryState_DELIVERY_STATE_WAITING:   "retrying",
	postriderv1.DeliveryState_DELIVERY_STATE_HELD:      "held",
	postriderv1.DeliveryState_DELIVERY_STATE_DELIVERED: "success",
	postriderv1.DeliveryState_DELIVERY_STATE_DEAD:      "failed",
	postriderv1.DeliveryState_DELIVERY_STATE_CANCELLED: "cancelled",
}

type shownDelivery struct {
	ID             string         `json:"id"`
	WebhookID      string         `json:"webhookId"`
	EventID        string         `json:"eventId"`
	EventType      string         `json:"eventType"`
	Status         string         `json:"status"`
	Attempts       int32          `json:"attempts"`
	ResponseStatus int32          `json:"responseStatus,omitempty"`
	Error          string         `json:"error,omitempty"`
	CreatedAt      string         `json:"createdAt"`
	UpdatedAt      string         `json:"updatedAt"`
	NextRetryAt    string         `json:"nextRetryAt,omitempty"`
	History        []shownAttempt `json:"history,omitempty"`
	Response       *shownResponse `json:"response,omitempty"`
}

type shownAttempt struct {
	Number       int32  `json:"number"`
	StartedAt    string `json:"startedAt"`
	ResponseTime int64  `json:"responseTime"` // milliseconds
	Status       int32  `json:"status,omitempty"`
	Error        string `json:"error,omitempty"`
}

// shownResponse is the last answer.
type shownResponse struct {
	Status int32  `json:"status"`
	Body   string `json:"body"`
}

func showDelivery(d *postriderv1.Delivery) shownDelivery {
	out := shownDelivery{
		ID: d.GetId(), WebhookID: d.GetWebhookId(), EventID: d.GetEventId(), EventType: d.GetEventType(),
		Status: statuses[d.GetState()], Attempts: d.GetAttemptCount(), ResponseStatus: d.GetLastStatusCode(), Error: d.GetLastErrorClass(),
		CreatedAt: shownTime(d.GetCreateTime().AsTime()), UpdatedAt: shownTime(d.GetUpdateTime().AsTime()),
	}
	if d.GetNextAttemptTime() != nil {
		out.NextRetryAt = shownTime(d.GetNextAttemptTime().AsTime())
	}
	return out
}

// walk reads a list of deliveries, newest first, until enough is read; more reports whether there
// are others behind.
func (h *handler) walk(r *request, req *postriderv1.ListDeliveriesRequest, enough int) (all []*postriderv1.Delivery, more bool, err error) {
	for {
		req.PageSize = int32(min(fetch, enough-len(all))) //nolint:gosec // at most fetch
		resp, err := h.deliveries.ListDeliveries(r.ctx, req)
		if err != nil {
			return nil, false, err
		}
		all = append(all, resp.GetDeliveries()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all, false, nil
		}
		if len(all) >= enough {
			return all, true, nil
		}
	}
}

// listDeliveries answers with a page. The total is told where the list was read to its end.
func (h *handler) listDeliveries(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, nil, fault.New(fault.Invalid, "BAD_REQUEST", "the query cannot be decoded")
	}
	page, perPage, v := pageOf(q)
	if page*perPage > maxWalk {
		v = append(v, fault.Violation{Field: "page", Rule: fmt.Sprintf("must not reach beyond %d deliveries; ask for a time with startDate and endDate", maxWalk)})
	}
	req, wrong := deliveryFilter(q)
	if v = append(v, wrong...); len(v) > 0 {
		return 0, nil, fault.InvalidFields(v...)
	}
	req.WebhookId = w.GetId()
	all, more, err := h.walk(r, req, page*perPage)
	if err != nil {
		return 0, nil, err
	}
	items := []shownDelivery{}
	for _, d := range all[min((page-1)*perPage, len(all)):] {
		items = append(items, showDelivery(d))
	}
	var total *int
	if !more {
		n := len(all)
		total = &n
	}
	return http.StatusOK, listAnswer{items, paginate(page, perPage, total, more)}, nil
}

func deliveryFilter(q url.Values) (*postriderv1.ListDeliveriesRequest, []fault.Violation) {
	req := &postriderv1.ListDeliveriesRequest{EventType: q.Get("eventType")}
	var v []fault.Violation
	if text := q.Get("status"); text != "" {
		for state, name := range statuses {
			if name == text {
				req.State = state
			}
		}
		if req.GetState() == postriderv1.DeliveryState_DELIVERY_STATE_UNSPECIFIED {
			v = append(v, fault.Violation{Field: "status", Rule: "must be pending, retrying, held, success, failed or cancelled"})
		}
	}
	if by := q.Get("sortBy"); by != "" && by != "createdAt" {
		v = append(v, fault.Violation{Field: "sortBy", Rule: "must be createdAt"})
	}
	if order := q.Get("sortOrder"); order != "" && order != "desc" {
		v = append(v, fault.Violation{Field: "sortOrder", Rule: "must be desc"})
	}
	for name, into := range map[string]**timestamppb.Timestamp{"startDate": &req.StartTime, "endDate": &req.EndTime} {
		text := q.Get(name)
		if text == "" {
			continue
		}
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t, err = time.Parse(time.DateOnly, text)
		}
		if err != nil {
			v = append(v, fault.Violation{Field: name, Rule: "must be a date or a time, such as 2026-11-21T21:00:00Z"})
			continue
		}
		*into = timestamppb.New(t)
	}
	return req, v
}

// findDelivery is the delivery of the path, if it is one of the path's webhook.
func (h *handler) findDelivery(r *request) (*postriderv1.Delivery, error) {
	w, err := h.find(r)
	if err != nil {
		return nil, err
	}
	resp, err := h.deliveries.GetDelivery(r.ctx, &postriderv1.GetDeliveryRequest{DeliveryId: r.delivery})
	if err != nil {
		return nil, err
	}
	if resp.GetDelivery().GetWebhookId() != w.GetId() {
		return nil, fault.New(fault.NotFound, "NOT_FOUND", "no delivery "+r.delivery)
	}
	return resp.GetDelivery(), nil
}

// showDelivery answers with a delivery and its attempts.
func (h *handler) showDelivery(r *request) (int, any, error) {
	d, err := h.findDelivery(r)
	if err != nil {
		return 0, nil, err
	}
	resp, err := h.deliveries.ListAttempts(r.ctx, &postriderv1.ListAttemptsRequest{DeliveryId: d.GetId(), PageSize: fetch})
	if err != nil {
		return 0, nil, err
	}
	out := showDelivery(d)
	for _, a := range resp.GetAttempts() {
		out.History = append(out.History, shownAttempt{
			Number: a.GetNumber(), StartedAt: shownTime(a.GetStartTime().AsTime()), Status: a.GetStatusCode(),
			ResponseTime: a.GetDuration().AsDuration().Milliseconds(), Error: a.GetErrorClass(),
		})
		if a.GetStatusCode() > 0 {
			out.Response = &shownResponse{Status: a.GetStatusCode(), Body: string(a.GetResponseBody())}
		}
	}
	return http.StatusOK, out, nil
}

// redeliver makes one attempt of a delivery now, beside its schedule.
func (h *handler) redeliver(r *request) (int, any, error) {
	d, err := h.findDelivery(r)
	if err != nil {
		return 0, nil, err
	}
	_, err = h.deliveries.RetryDelivery(r.ctx, &postriderv1.RetryDeliveryRequest{DeliveryId: d.GetId()})
	if e, ok := fault.As(fault.FromStatus(err)); ok && e.Reason == "DELIVERY_ENDED" {
		err = fault.New(fault.Aborted, "NOT_WAITING", "only a delivery that was neither delivered nor cancelled can be redelivered; this one is "+statuses[d.GetState()])
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"success": true, "deliveryId": d.GetId()}, nil
}

// test makes one attempt now, outside every schedule.
func (h *handler) test(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	in := struct {
		EventType string `json:"eventType"`
	}{}
	if err := readJSON(r, &in); err != nil {
		return 0, nil, err
	}
	event := &postriderv1.EventInput{Type: orDefault(in.EventType, testEvent), Data: []byte("{}")}
	known, err := h.eventTypes.GetEventType(r.ctx, &postriderv1.GetEventTypeRequest{Name: event.GetType()})
	if err == nil && len(known.GetEventType().GetExample()) > 0 {
		event.Data, event.ContentType = known.GetEventType().GetExample(), known.GetEventType().GetExampleContentType()
	}
	resp, err := h.webhooks.TestWebhook(r.ctx, &postriderv1.TestWebhookRequest{WebhookId: w.GetId(), Event: event})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{
		"success": resp.GetSuccess(), "responseStatus": resp.GetStatusCode(), "responseTime": resp.GetDuration().AsDuration().Milliseconds(),
		"message": resp.GetMessage(), "eventType": event.GetType(),
	}, nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// periods are the times that statistics are made of.
var periods = map[string]time.Duration{
	"last_24_hours": 24 * time.Hour, "last_7_days": 7 * 24 * time.Hour, "last_30_days": 30 * 24 * time.Hour,
}

type shownStats struct {
	WebhookID   string         `json:"webhookId"`
	StartDate   string         `json:"startDate"`
	EndDate     string         `json:"endDate"`
	Total       int            `json:"totalDeliveries"`
	Successful  int            `json:"successfulDeliveries"`
	Failed      int            `json:"failedDeliveries"`
	ByStatus    map[string]int `json:"byStatus"`
	Attempts    int            `json:"deliveryAttempts"` // by schedules; redeliveries are beside them
	SuccessRate *float64       `json:"successRate"`      // of those that ended; null if none did
	Truncated   bool           `json:"truncated"`        // only the newest deliveries were counted
}

// stats counts the deliveries of a time, by default the last seven days, by the delivery log.
func (h *handler) stats(r *request) (int, any, error) {
	w, err := h.find(r)
	if err != nil {
		return 0, nil, err
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return 0, nil, fault.New(fault.Invalid, "BAD_REQUEST", "the query cannot be decoded")
	}
	req, v := deliveryFilter(url.Values{"startDate": q["startDate"], "endDate": q["endDate"]})
	period := orDefault(q.Get("period"), "last_7_days")
	length, known := periods[period]
	if !known && period != "custom" {
		v = append(v, fault.Violation{Field: "period", Rule: "must be last_24_hours, last_7_days, last_30_days or custom"})
	}
	if len(v) > 0 {
		return 0, nil, fault.InvalidFields(v...)
	}
	now := h.now()
	if req.GetEndTime() == nil {
		req.EndTime = timestamppb.New(now)
	}
	if req.GetStartTime() == nil {
		req.StartTime = timestamppb.New(req.GetEndTime().AsTime().Add(-max(length, 24*time.Hour)))
	}
	req.WebhookId = w.GetId()
	out := shownStats{
		WebhookID: w.GetId(), StartDate: shownTime(req.GetStartTime().AsTime()), EndDate: shownTime(req.GetEndTime().AsTime()), ByStatus: map[string]int{},
	}
	all, more, err := h.walk(r, req, maxWalk)
	if err != nil {
		return 0, nil, err
	}
	for _, d := range all {
		out.ByStatus[statuses[d.GetState()]]++
		out.Attempts += int(d.GetAttemptCount())
	}
	out.Total, out.Truncated = len(all), more
	out.Successful, out.Failed = out.ByStatus["success"], out.ByStatus["failed"]
	if ended := out.Successful + out.Failed; ended > 0 {
		rate := float64(out.Successful) / float64(ended)
		out.SuccessRate = &rate
	}
	return http.StatusOK, out, nil
}

type shownEvent struct {
	Type        string `json:"type"`
	Description string `json:"description"`
	Group       string `json:"group"`
}

func (h *handler) catalogue(r *request) ([]*postriderv1.EventType, error) {
	var all []*postriderv1.EventType
	for token := ""; ; {
		resp, err := h.eventTypes.ListEventTypes(r.ctx, &postriderv1.ListEventTypesRequest{PageSize: fetch, PageToken: token})
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetEventTypes()...)
		if token = resp.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// events answers with the catalogue: type, description and group.
func (h *handler) events(r *request) (int, any, error) {
	all, err := h.catalogue(r)
	if err != nil {
		return 0, nil, err
	}
	out := make([]shownEvent, len(all))
	for i, e := range all {
		out[i] = shownEvent{e.GetName(), e.GetDescription(), e.GetGroup()}
	}
	return http.StatusOK, out, nil
}

// eventNames answers with the names alone, which is what the SDKs read.
func (h *handler) eventNames(r *request) (int, any, error) {
	all, err := h.catalogue(r)
	if err != nil {
		return 0, nil, err
	}
	out := make([]string, len(all))
	for i, e := range all {
		out[i] = e.GetName()
	}
	return http.StatusOK, out, nil
}
