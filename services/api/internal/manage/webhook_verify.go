package manage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/profile"
	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// verifiable is the profile whose receivers can be asked to tell tokens apart.
const verifiable = "labelst"

// VerifyWebhook asks a receiver to tell the webhook's token from another, which it has to refuse:
// one that takes every token has not verified any. The answer is kept with the webhook. Both
// requests go out before the answer is judged, so a receiver that is away costs two attempts' time
// at most.
func (s *Server) VerifyWebhook(ctx context.Context, req *postriderv1.VerifyWebhookRequest) (*postriderv1.VerifyWebhookResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	id := req.GetWebhookId()
	rec, _, err := s.deps.Store.GetWebhook(ctx, string(account), id)
	if err != nil {
		return nil, stored(err, "webhook", id)
	}
	asked := rec.GetWebhook()
	if asked.GetProfile() != verifiable {
		return nil, errNotOfProfile(asked, verifiable)
	}
	answer, err := s.verify(ctx, rec)
	if err != nil {
		return nil, err
	}
	var before *postriderv1.Webhook
	rec, revision, err := s.changeWebhook(ctx, string(account), id, "", func(rec *recordv1.Webhook) error {
		w := rec.GetWebhook()
		if !same(asked, w) {
			return errMoved(id)
		}
		before = proto.CloneOf(w)
		w.Verification = answer
		s.gate(w)
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.passed(ctx, before, rec.GetWebhook(), revision)
	return &postriderv1.VerifyWebhookResponse{Webhook: shownWebhook(rec, revision)}, nil
}

// verify sends a receiver its own token and a made-up one.
func (s *Server) verify(ctx context.Context, rec *recordv1.Webhook) (*postriderv1.Verification, error) {
	w := rec.GetWebhook()
	if len(rec.GetSecrets()) == 0 {
		return nil, fault.New(fault.Precondition, "NO_SECRET", "the webhook has no token")
	}
	own, err := OpenSecret(s.deps.Sealer, w.GetAccountId(), w.GetId(), rec.GetSecrets()[0])
	if err != nil {
		return nil, err
	}
	prof, found := profile.Lookup(w.GetProfile())
	if !found {
		return nil, fault.New(fault.Precondition, "UNKNOWN_PROFILE", "this version does not have the webhook's profile")
	}
	other, _, err := prof.NewSecret("")
	if err != nil {
		return nil, fmt.Errorf("make up a token: %w", err)
	}
	ownAnswer, err := s.probeToken(ctx, w, own)
	if err != nil {
		return nil, err
	}
	otherAnswer, err := s.probeToken(ctx, w, other)
	if err != nil {
		return nil, err
	}
	v := &postriderv1.Verification{
		OwnStatus: ownAnswer.GetStatusCode(), OtherStatus: otherAnswer.GetStatusCode(), Time: timestamppb.New(s.deps.Now()),
	}
	v.Valid = v.GetOwnStatus() == http.StatusOK && v.GetOtherStatus() == http.StatusUnauthorized
	switch {
	case v.GetOwnStatus() != http.StatusOK:
		v.Detail = "its own token was answered with " + answered(ownAnswer) + " in place of 200"
	case !v.GetValid():
		v.Detail = "another token was answered with " + answered(otherAnswer) + " in place of 401"
	}
	return v, nil
}

func (s *Server) probeToken(ctx context.Context, w *postriderv1.Webhook, token string) (*dispatcherv1.SendProbeResponse, error) {
	body, err := json.Marshal(map[string]string{"token": token})
	if err != nil {
		return nil, fmt.Errorf("write token: %w", err)
	}
	return s.deps.Dispatcher.SendProbe(ctx, &dispatcherv1.SendProbeRequest{
		AccountId: w.GetAccountId(), WebhookId: w.GetId(), Method: http.MethodPost,
		Headers: map[string]string{"Content-Type": "application/json"}, Body: body,
	})
}

// answered is a probe's answer for people.
func answered(a *dispatcherv1.SendProbeResponse) string {
	if a.GetStatusCode() == 0 {
		return "nothing (" + a.GetErrorClass() + ": " + a.GetErrorMessage() + ")"
	}
	return strconv.Itoa(int(a.GetStatusCode()))
}
