package profile

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// offblocksSchedule is some fast retries, then longer and longer ones, which jitter spreads, for up
// to 24 hours; then the delivery is given up.
var offblocksSchedule = retry.Schedule{
	Delays: []time.Duration{
		time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour,
	},
	Jitter: 0.5, Sooner: true, JitterFrom: 4,
	Horizon: 24 * time.Hour,
}

// The members that the profile adds to the entity's own.
const (
	offblocksType  = "webhookType"
	offblocksEvent = "eventId"
)

// offblocks is the form of docs.offblocks.xyz: the entity's members with two more, signed as RFC
// 9421 says by the account's key. The webhook's secret plays no part.
type offblocks struct{}

func (offblocks) Name() string { return "offblocks" }

func (offblocks) Schedule() retry.Schedule { return offblocksSchedule }

func (p offblocks) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	out := (&rules{schedule: p.Schedule()}).validate(w)
	if w.GetOptions().GetMessageSignature() == messageNone {
		out = append(out, fault.Violation{
			Field: optionsPrefix + optionMessageSignature, Rule: "must be " + messageTarget + " or " + messageAuthority + " in this profile",
		})
	}
	return sorted(out)
}

func (offblocks) NewSecret(kind string) (text, publicKey string, err error) {
	if kind != "" && kind != signature.KindHMAC {
		return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: `must be "hmac" in this profile`})
	}
	return signature.GenerateHMAC(), "", nil
}

func (offblocks) ParseSecret(text string) (signature.Secret, error) {
	return signature.ParseSecret(text, signature.KindHMAC)
}

func (offblocks) Render(in *Input) (*Rendered, error) {
	body, err := offblocksBody(in)
	if err != nil {
		return nil, err
	}
	return &Rendered{
		Method: http.MethodPost,
		URL:    in.Webhook.GetUrl(),
		Header: http.Header{headerContentType: {jsonType}, signature.HeaderID: {EventUUID(in.Delivery.GetEventId())}},
		Body:   body,
	}, nil
}

// offblocksBody puts webhookType and eventId before the entity's members, whose bytes stay as they
// are. An entity's own members of these names give way: receivers tell events apart by ours.
func offblocksBody(in *Input) ([]byte, error) {
	data, err := object(in.Data)
	if err != nil {
		return nil, err
	}
	if err := match.CheckEventType(in.Delivery.GetEventType()); err != nil {
		return nil, fmt.Errorf("%w: event type %w", ErrUnrenderable, err)
	}
	members, err := membersOf(data)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(data)+len(in.Delivery.GetEventType())+len(`{"webhookType":"","eventId":"00000000-0000-0000-0000-000000000000",`))
	b = append(b, `{"`+offblocksType+`":"`...)
	b = append(b, in.Delivery.GetEventType()...)
	b = append(b, `","`+offblocksEvent+`":"`...)
	b = append(b, EventUUID(in.Delivery.GetEventId())...)
	b = append(b, '"')
	ours := func(m member) bool { return m.name == offblocksType || m.name == offblocksEvent }
	if len(members) > 0 && !slices.ContainsFunc(members, ours) {
		b = append(b, ',')
		return append(b, bytes.TrimLeft(data[1:], " \t\r\n")...), nil
	}
	for _, m := range members {
		if !ours(m) {
			b = append(append(b, ','), m.text...)
		}
	}
	return append(b, '}'), nil
}

// EventUUID is the UUID by which formats name an event that have no other ids.
func EventUUID(eventID string) string { return postrider.EventID(eventID).UUID().String() }

func (offblocks) Sign(r *Rendered, in *Input, at Attempt) error {
	if len(at.Signers) == 0 {
		return ErrNoSigner
	}
	r.Header[signature.HeaderTimestamp] = []string{strconv.FormatInt(at.Time.Unix(), 10)}
	return signMessage(r, in, at)
}
