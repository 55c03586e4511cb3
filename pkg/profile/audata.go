package profile

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // stations' time zones, also where the system has none

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/signature"
)

// sentAtLayout is ISO 8601 with milliseconds and a numeric offset: UTC is +00:00, not Z.
const sentAtLayout = "2006-01-02T15:04:05.000-07:00"

// longestSentAt is how long sentAt is in a URL, at most: its colons are escaped, and so is the plus
// of an offset to the east.
const longestSentAt = len("2006-01-02T15%3A04%3A05.000%2B07%3A00")

// The members of a call, in their order.
const (
	audataEvent    = "event"
	audataSentAt   = "sentAt"
	audataStation  = "station"
	audataSenderID = "sender_id"
	audataSender   = "sender"
	audataCallID   = "webhookCallId"
)

// audata is the form of developer.audata.io/reference/webhooks: a webhook has one event key and one
// method. POST has the six members in a JSON body, GET the same as parameters of the URL. sentAt
// belongs to the attempt; the call's id to the delivery. The source has no signature; headers of
// Standard Webhooks are added, over the empty body for GET, whose parameters an HTTP message
// signature covers.
type audata struct {
	standard

	zones zones
}

func (*audata) Name() string { return "audata" }

func (p *audata) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	r := rules{
		schedule: p.Schedule(), methods: []string{http.MethodPost, http.MethodGet}, https: true,
		options: []string{optionQueryStyle},
	}
	out := r.validate(w)
	if types := w.GetEventTypes(); len(types) != 1 || !eventKey().MatchString(types[0]) {
		out = append(out, fault.Violation{
			Field: "webhook.event_types", Rule: "must be exactly one event key in this profile, such as Listener.updated (created, updated or deleted)",
		})
	}
	if w.GetMethod() == http.MethodGet && w.GetOptions().GetMessageSignature() == messageAuthority {
		out = append(out, fault.Violation{
			Field: optionsPrefix + optionMessageSignature, Rule: "must be " + messageTarget + " for GET, which binds the parameters",
		})
	}
	return sorted(out)
}

var eventKey = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Z][A-Za-z0-9]*\.(created|updated|deleted)$`)
})

// CallID is the UUID that names the calls of a delivery: the same for all of its attempts, and the
// call_id of the delivery log.
func CallID(deliveryID string) string { return postrider.DeliveryID(deliveryID).UUID().String() }

func (p *audata) Render(in *Input) (*Rendered, error) {
	// The webhook's URL was checked when it was saved; what is sent holds personal data, so that
	// nothing that happened since makes it go over plain HTTP.
	if !strings.HasPrefix(in.Webhook.GetUrl(), "https://") {
		return nil, fmt.Errorf("%w: the URL must begin with https://", ErrUnrenderable)
	}
	if in.Account.GetSubdomain() == "" {
		return nil, ErrNoAccount
	}
	if _, err := p.zones.load(in.Account.GetTimeZone()); err != nil {
		return nil, err
	}
	if err := match.CheckEventType(in.Delivery.GetEventType()); err != nil {
		return nil, fmt.Errorf("%w: event type %w", ErrUnrenderable, err)
	}
	sender, err := object(in.Data)
	if err != nil {
		return nil, err
	}
	id, err := senderID(sender)
	if err != nil {
		return nil, err
	}
	r := &Rendered{URL: in.Webhook.GetUrl(), Header: http.Header{signature.HeaderID: {in.Delivery.GetEventId()}}}
	if in.Webhook.GetMethod() == http.MethodGet {
		r.Method = http.MethodGet
		return r, audataQuery(r, in, id, sender)
	}
	r.Method = http.MethodPost
	r.Header[headerContentType] = []string{jsonType}
	audataBody(r, in, id, sender)
	return r, nil
}

// senderID is the text of the record's id, which must be an integer. Of two the last counts, as
// for receivers.
func senderID(sender []byte) ([]byte, error) {
	members, err := membersOf(sender)
	if err != nil {
		return nil, err
	}
	var id []byte
	for _, m := range members {
		if m.name == "id" {
			id = m.value
		}
	}
	digits := bytes.TrimPrefix(id, []byte("-"))
	if len(digits) == 0 || bytes.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
		return nil, fmt.Errorf("%w: data must have an id that is an integer", ErrUnrenderable)
	}
	return id, nil
}

// audataBody makes what stands around sentAt.
func audataBody(r *Rendered, in *Input, id, sender []byte) {
	r.before = fmt.Appendf(nil, `{%q:%q,%q:"`, audataEvent, in.Delivery.GetEventType(), audataSentAt)
	b := make([]byte, 0, len(sender)+256)
	b = fmt.Appendf(b, `",%q:%s,%q:%s,%q:`, audataStation, jsonText(in.Account.GetSubdomain()), audataSenderID, id, audataSender)
	b = append(b, sender...)
	r.after = fmt.Appendf(b, `,%q:%q}`, audataCallID, CallID(in.Delivery.GetId()))
}

// audataQuery makes what stands around sentAt in the URL: the webhook's own parameters stay first
// and as they are.
func audataQuery(r *Rendered, in *Input, id, sender []byte) error {
	q := query{dst: []byte(in.Webhook.GetUrl()), first: !strings.Contains(in.Webhook.GetUrl(), "?")}
	q.pair(audataEvent, in.Delivery.GetEventType())
	q.pair(audataSentAt, "")
	r.before = q.dst
	q = query{}
	q.pair(audataStation, in.Account.GetSubdomain())
	q.pair(audataSenderID, string(id))
	if err := q.flatten(audataSender, sender, in.Webhook.GetOptions().GetQueryStyle()); err != nil {
		return err
	}
	q.pair(audataCallID, CallID(in.Delivery.GetId()))
	r.after = q.dst
	if len(r.before)+longestSentAt+len(r.after) > MaxTargetBytes {
		return ErrURLTooLong
	}
	return nil
}

func (p *audata) Sign(r *Rendered, in *Input, at Attempt) error {
	zone, err := p.zones.load(in.Account.GetTimeZone())
	if err != nil {
		return err
	}
	sentAt := at.Time.In(zone).Format(sentAtLayout)
	if r.Method == http.MethodGet {
		r.URL = string(r.around(url.QueryEscape(sentAt)))
	} else {
		r.Body = r.around(sentAt)
	}
	return signStandard(r, in.Delivery.GetEventId(), at)
}

// errTimeZone means that the account's time zone is not one.
var errTimeZone = errors.New("the account's time zone is not known")

// zones keeps the time zones that were asked for; there are some hundreds in the world.
type zones struct{ known sync.Map }

func (z *zones) load(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if l, ok := z.known.Load(name); ok {
		if location, ok := l.(*time.Location); ok {
			return location, nil
		}
	}
	l, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, errTimeZone
	}
	z.known.Store(name, l)
	return l, nil
}
