package manage

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/profile"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// consenting is the profile whose receivers can be asked for their consent.
const consenting = "cloudevents"

// askingTime bounds how long the creation or change of a webhook waits for the handshake that it
// causes: its caller has to learn what was stored.
const askingTime = 10 * time.Second

// Headers of the handshake (HTTP 1.1 Web Hooks for Event Delivery, section 4).
const (
	headerRequestOrigin   = "WebHook-Request-Origin"
	headerRequestCallback = "WebHook-Request-Callback"
	headerRequestRate     = "WebHook-Request-Rate"
	headerAllowedOrigin   = "WebHook-Allowed-Origin"
	headerAllowedRate     = "WebHook-Allowed-Rate"
)

// HandshakeWebhook asks a receiver for its consent, and keeps the answer with the webhook. A
// receiver that does not consent at once may do so later through the callback that it was given.
func (s *Server) HandshakeWebhook(ctx context.Context, req *postriderv1.HandshakeWebhookRequest) (*postriderv1.HandshakeWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if req.GetRate() < 0 {
		return nil, invalid("rate", "must be at least 1, or 0 to ask for none")
	}
	rec, _, err := s.deps.Store.GetWebhook(ctx, string(account), req.GetWebhookId())
	if err != nil {
		return nil, stored(err, "webhook", req.GetWebhookId())
	}
	if rec.GetWebhook().GetProfile() != consenting {
		return nil, errNotOfProfile(rec.GetWebhook(), consenting)
	}
	rec, revision, err := s.handshake(ctx, rec.GetWebhook(), req.GetRate())
	if err != nil {
		return nil, err
	}
	return &postriderv1.HandshakeWebhookResponse{Webhook: shownWebhook(rec, revision)}, nil
}

// handshakeAfter asks the receiver of a webhook that was just stored, if it is to be asked. The
// webhook is stored whatever comes of it: a receiver that cannot be asked now is asked again by
// HandshakeWebhook.
func (s *Server) handshakeAfter(ctx context.Context, rec *recordv1.Webhook, revision uint64) (*recordv1.Webhook, uint64) {
	w := rec.GetWebhook()
	if how := w.GetOptions().GetHandshake(); how == "" || how == profile.HandshakeOff {
		return rec, revision
	}
	rate := int32(0)
	if w.RateLimit != nil {
		rate = int32(min(math.MaxInt32, math.Ceil(w.GetRateLimit()*60)))
	}
	asking, cancel := context.WithTimeout(ctx, askingTime)
	defer cancel()
	asked, at, err := s.handshake(asking, w, rate)
	if err != nil {
		s.deps.Logger.WarnContext(ctx, "the receiver was not asked for its consent", "webhook", w.GetId(), "error", err)
		return rec, revision
	}
	return asked, at
}

// handshake asks and keeps the answer. The callback is stored before the receiver hears of it.
func (s *Server) handshake(ctx context.Context, asked *postriderv1.Webhook, rate int32) (*recordv1.Webhook, uint64, error) {
	headers := map[string]string{headerRequestOrigin: s.deps.Origin}
	if rate > 0 {
		headers[headerRequestRate] = strconv.Itoa(int(rate))
	}
	callback, err := s.newCallback(ctx, asked, rate)
	if err != nil {
		return nil, 0, err
	}
	if callback != "" {
		headers[headerRequestCallback] = callback
	}
	resp, err := s.deps.Dispatcher.SendProbe(ctx, &dispatcherv1.SendProbeRequest{
		AccountId: asked.GetAccountId(), WebhookId: asked.GetId(), Method: http.MethodOptions, Headers: headers,
	})
	if err != nil {
		return nil, 0, err
	}
	answer := s.judge(resp, rate)
	rec, revision, err := s.keepHandshake(ctx, asked, answer)
	if err == nil && answer.GetConsented() {
		s.dropCallback(ctx, asked.GetId()) // it has nothing more to grant
	}
	return rec, revision, err
}

// keepHandshake stores a receiver's answer, if the webhook is still what it was asked for.
func (s *Server) keepHandshake(ctx context.Context, asked *postriderv1.Webhook, answer *postriderv1.Handshake) (*recordv1.Webhook, uint64, error) {
	var before *postriderv1.Webhook
	rec, revision, err := s.changeWebhook(ctx, asked.GetAccountId(), asked.GetId(), "", func(rec *recordv1.Webhook) error {
		w := rec.GetWebhook()
		if !same(asked, w) {
			return errMoved(asked.GetId())
		}
		before = proto.CloneOf(w)
		w.Handshake = answer
		s.gate(w)
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	s.passed(ctx, before, rec.GetWebhook(), revision)
	return rec, revision, nil
}

// judge reads an answer. Consent is in its headers alone; a status says nothing, since servers that
// know nothing of handshakes answer OPTIONS with 200.
func (s *Server) judge(resp *dispatcherv1.SendProbeResponse, rate int32) *postriderv1.Handshake {
	h := &postriderv1.Handshake{Origin: s.deps.Origin, Time: timestamppb.New(s.deps.Now())}
	if resp.GetStatusCode() == 0 {
		h.Detail = "there was no answer (" + resp.GetErrorClass() + ": " + resp.GetErrorMessage() + ")"
		return h
	}
	origin, named := header(resp.GetHeaders(), headerAllowedOrigin)
	if !named {
		h.Detail = "the answer " + answered(resp) + " has no " + headerAllowedOrigin
		return h
	}
	if origin != "*" && !strings.EqualFold(origin, s.deps.Origin) {
		h.Detail = headerAllowedOrigin + " names another origin"
		return h
	}
	text, _ := header(resp.GetHeaders(), headerAllowedRate)
	stated := text != ""
	if !stated && rate > 0 {
		h.Detail = "the answer has no " + headerAllowedRate + ", though a rate was asked for"
		return h
	}
	allowed, ok := parseRate(text)
	if stated && !ok {
		h.Detail = headerAllowedRate + " is neither * nor an integer of at least 1"
		return h
	}
	h.Consented, h.AllowedRate = true, allowed
	return h
}

// parseRate reads an allowed rate; 0 is any.
func parseRate(text string) (int32, bool) {
	if text == "*" {
		return 0, true
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, false
	}
	return int32(n), true
}

// header finds a header, whose name's case does not matter.
func header(headers map[string]string, name string) (string, bool) {
	for k, v := range headers {
		if strings.EqualFold(k, name) {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
