package profile

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/ecmajson"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// The headers of JewelMusic, as http.Header spells them.
const (
	jewelPrefix          = "X-Jewelmusic-"
	jewelHeaderSignature = jewelPrefix + "Signature"
	jewelHeaderEvent     = jewelPrefix + "Event"
	jewelHeaderTimestamp = jewelPrefix + "Timestamp"

	// JewelMusicSignaturePrefix stands before the hexadecimal HMAC in X-JewelMusic-Signature.
	JewelMusicSignaturePrefix = "sha256="
)

// jewelSchedule is five attempts in all. The delays count from the end of the previous attempt: the
// source calls them exponential backoff, and 1, 5, 30, 120 is a sequence of gaps. Never early.
var jewelSchedule = retry.Schedule{
	Delays: []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour},
	Jitter: 0.1,
}

// jewelMusic is the form of jewelmusic.art/docs/webhooks: an envelope around the data, and one
// hexadecimal HMAC over the raw body, keyed with the secret's text.
//
// The source's own handler compares the whole signature header with timingSafeEqual, which throws
// on any other length, so the header always holds one signature, the newest secret's. So that
// rotation has an overlap all the same, deliveries carry the headers of Standard Webhooks too,
// signed with every secret in force, whose keys are the UTF-8 bytes of the texts: extra headers
// disturb no handler of the source, and bind id and time for receivers that want it.
//
// The handler also hashes JSON.stringify of what it parsed, and not the bytes that came. It can
// verify only a body that ECMAScript writes in the same way, so data that it does not are written
// in its form here, and in no other profile (ADR 0012).
type jewelMusic struct{}

func (jewelMusic) Name() string { return "jewelmusic" }

func (jewelMusic) Schedule() retry.Schedule { return jewelSchedule }

func (p jewelMusic) ValidateWebhook(w *postriderv1.Webhook) []fault.Violation {
	return (&rules{schedule: p.Schedule(), sets: prefixed(jewelPrefix)}).validate(w)
}

func (jewelMusic) NewSecret(kind string) (text, publicKey string, err error) {
	if kind != "" && kind != signature.KindHMAC {
		return "", "", fault.InvalidFields(fault.Violation{Field: "secret_kind", Rule: `must be "hmac" in this profile`})
	}
	return signature.GenerateText(), "", nil
}

func (jewelMusic) ParseSecret(text string) (signature.Secret, error) {
	return signature.ParseSecret(text, signature.KindText)
}

func (jewelMusic) Render(in *Input) (*Rendered, error) {
	data, err := object(in.Data)
	if err != nil {
		return nil, err
	}
	if ecmajson.Stable(data) != nil {
		// What lies too deep for ECMAScript's own writer stays as it is.
		if written, err := ecmajson.Append(nil, data); err == nil {
			data = written
		}
	}
	return renderJewel(in, data)
}

func renderJewel(in *Input, data []byte) (*Rendered, error) {
	body, err := jewelBody(in, data)
	if err != nil {
		return nil, err
	}
	return &Rendered{
		Method: http.MethodPost,
		URL:    in.Webhook.GetUrl(),
		Header: http.Header{
			headerContentType:  {jsonType},
			jewelHeaderEvent:   {in.Delivery.GetEventType()},
			signature.HeaderID: {in.Delivery.GetEventId()},
		},
		Body: body,
	}, nil
}

// jewelBody puts {"id","type","created","data"} together by concatenation, compact and in this
// order. Whitespace around the data's value is not part of the value, and is left out.
func jewelBody(in *Input, data []byte) ([]byte, error) {
	d := in.Delivery
	// Ids and event types hold nothing that JSON escapes; what is not so was not made by us.
	if err := match.CheckEventType(d.GetEventType()); err != nil {
		return nil, fmt.Errorf("%w: event type %w", ErrUnrenderable, err)
	}
	if err := match.CheckEventType(d.GetEventId()); err != nil {
		return nil, fmt.Errorf("%w: event id %w", ErrUnrenderable, err)
	}
	b := make([]byte, 0, len(data)+len(d.GetEventType())+len(d.GetEventId())+len(`{"id":"","type":"","created":-9223372036854775808,"data":}`))
	b = append(b, `{"id":"`...)
	b = append(b, d.GetEventId()...)
	b = append(b, `","type":"`...)
	b = append(b, d.GetEventType()...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, d.GetEventTime().GetSeconds(), 10)
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return append(b, '}'), nil
}

func (jewelMusic) Sign(r *Rendered, in *Input, at Attempt) error {
	if len(at.Secrets) == 0 {
		return ErrNoSecret
	}
	sum := signature.HexHMAC(at.Secrets[0], r.Body)
	if sum == "" {
		return ErrNoSecret
	}
	if err := signStandard(r, in.Delivery.GetEventId(), at); err != nil {
		return err
	}
	r.Header[jewelHeaderSignature] = []string{JewelMusicSignaturePrefix + sum}
	r.Header[jewelHeaderTimestamp] = r.Header[signature.HeaderTimestamp]
	return nil
}

// jewelMusicSDK is the form that the source's own libraries verify, which contradicts its page: the
// signature is over "time.body" and names the time, and the body is verified as it came. Everything
// else is as in jewelMusic, except that data are never rewritten.
type jewelMusicSDK struct{ jewelMusic }

func (jewelMusicSDK) Name() string { return "jewelmusic-sdk" }

func (jewelMusicSDK) Render(in *Input) (*Rendered, error) {
	data, err := object(in.Data)
	if err != nil {
		return nil, err
	}
	return renderJewel(in, data)
}

func (jewelMusicSDK) Sign(r *Rendered, in *Input, at Attempt) error {
	scheme, ok := signature.LookupScheme("jewelmusic-sdk")
	if !ok {
		return ErrNoSecret
	}
	if err := signStandard(r, in.Delivery.GetEventId(), at); err != nil {
		return err
	}
	if err := scheme.Sign(r.Header, signature.SchemeMessage{Time: at.Time, Body: r.Body}, at.Secrets); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSecret, err)
	}
	r.Header[jewelHeaderTimestamp] = r.Header[signature.HeaderTimestamp]
	return nil
}
