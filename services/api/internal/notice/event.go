package notice

import (
	"encoding/json"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// The types of operational events.
const (
	typeFailing  = "postrider.webhook.failing"
	typeDisabled = "postrider.webhook.disabled"
	typeResumed  = "postrider.webhook.resumed"
	typeExpiring = "postrider.dead_letters.expiring"
)

// source is the source of operational events.
const source = "postrider"

// webhookData is what an operational event says of its webhook. The URL is not in it: it may hold
// secrets.
type webhookData struct {
	ID          string            `json:"id"`
	UUID        string            `json:"uuid"`
	Number      int64             `json:"number"`
	DisplayName string            `json:"display_name"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// data is the payload of operational events.
type data struct {
	Type      string       `json:"type"` // most profiles send the payload alone
	AccountID string       `json:"account_id"`
	Webhook   *webhookData `json:"webhook,omitempty"`

	Reason         string     `json:"reason,omitempty"`
	FailingSince   *time.Time `json:"failing_since,omitempty"`
	Percent        int32      `json:"percent,omitempty"`
	DisableTime    *time.Time `json:"disable_time,omitempty"`
	LastStatusCode int32      `json:"last_status_code,omitempty"`
	LastErrorClass string     `json:"last_error_class,omitempty"`

	Count       int            `json:"count,omitempty"`
	ExpireStart *time.Time     `json:"first_expire_time,omitempty"`
	ByWebhook   map[string]int `json:"by_webhook,omitempty"`
}

// Carries reports whether a webhook carries operational events. None is about such a webhook, or
// its failures would make the events that fail.
func Carries(w *postriderv1.Webhook) bool {
	for _, text := range w.GetEventTypes() {
		if p, err := match.ParsePattern(text); err == nil && p.Reserved() {
			return true
		}
	}
	return false
}

// State are the notices that a webhook, as it is going to be stored, was disabled or resumed.
func (p *Publisher) State(w *postriderv1.Webhook) []*recordv1.Notice {
	kind := typeDisabled
	if w.GetState() == postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE {
		kind = typeResumed
	}
	list := p.about(kind, w, &data{Reason: w.GetStateReason()})
	for _, n := range list {
		n.State, n.StateTime = w.GetState(), w.GetStateTime()
	}
	return list
}

// Failing are the notices that a webhook will be disabled if it goes on to fail.
func (p *Publisher) Failing(w *postriderv1.Webhook, f *recordv1.Failing, percent int32, limit time.Duration) []*recordv1.Notice {
	since := f.GetSince().AsTime()
	disable := since.Add(limit)
	list := p.about(typeFailing, w, &data{
		FailingSince: &since, Percent: percent, DisableTime: &disable,
		LastStatusCode: f.GetLastStatusCode(), LastErrorClass: f.GetLastErrorClass(),
	})
	for _, n := range list {
		n.FailingSince, n.Percent = f.GetSince(), percent
	}
	return list
}

func (p *Publisher) about(kind string, w *postriderv1.Webhook, d *data) []*recordv1.Notice {
	if Carries(w) {
		return nil
	}
	d.Webhook = &webhookData{
		ID: w.GetId(), UUID: w.GetUuid(), Number: w.GetNumber(), DisplayName: w.GetDisplayName(), Annotations: w.GetAnnotations(),
	}
	list := p.events(kind, w.GetAccountId(), d)
	for _, n := range list {
		n.WebhookId = w.GetId()
		n.Event.Labels["webhook_id"] = w.GetId()
	}
	return list
}

// events are the notice to the account, and to the operator's, if that is another.
func (p *Publisher) events(kind, account string, d *data) []*recordv1.Notice {
	d.Type, d.AccountID = kind, account
	body, err := json.Marshal(d)
	if err != nil { // It holds strings, numbers and times only.
		p.deps.Logger.Error("operational event cannot be written", "type", kind, "error", err)
		return nil
	}
	owners := []string{account}
	if p.cfg.Operator != "" && p.cfg.Operator != account {
		owners = append(owners, p.cfg.Operator)
	}
	now := timestamppb.New(p.deps.Now())
	list := make([]*recordv1.Notice, 0, len(owners))
	for _, owner := range owners {
		list = append(list, &recordv1.Notice{
			AccountId: account, CreateTime: now,
			Event: &recordv1.Event{
				Id: string(postrider.NewEventID()), AccountId: owner, Type: kind, Source: source, Time: now, AcceptTime: now,
				Labels: map[string]string{"account_id": account}, ContentType: "application/json", Data: body,
			},
		})
	}
	return list
}
