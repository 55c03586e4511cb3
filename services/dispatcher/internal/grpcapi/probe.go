package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/net/http/httpguts"

	dispatcherv1 "github.com/postrider/postrider/proto/gen/go/postrider/dispatcher/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/services/dispatcher/internal/attempt"
)

// maxProbeBody is the longest body of a probe.
const maxProbeBody = 64 << 10

// SendProbe makes one request to a webhook's URL that is no delivery: it asks the receiver
// something, outside of the webhook's limits and of its state, and is journalled nowhere.
func (s *Server) SendProbe(ctx context.Context, req *dispatcherv1.SendProbeRequest) (*dispatcherv1.SendProbeResponse, error) {
	header, err := probeHeader(req)
	if err != nil {
		return nil, err
	}
	free, err := s.slot()
	if err != nil {
		return nil, err
	}
	defer free()
	w, err := s.webhook(ctx, req.GetAccountId(), req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	answer, err := s.deps.Maker.Probe(ctx, w, req.GetMethod(), header, req.GetBody())
	if errors.Is(err, attempt.ErrNotReady) {
		return nil, fault.New(fault.Precondition, "WEBHOOK_NOT_READY", "the webhook cannot be attempted").WithCause(err)
	}
	if err != nil {
		return nil, fmt.Errorf("send probe for %s: %w", req.GetWebhookId(), err)
	}
	return &dispatcherv1.SendProbeResponse{
		StatusCode: answer.Status, Headers: answer.Headers, ErrorClass: string(answer.Class), ErrorMessage: answer.Message,
	}, nil
}

// probeHeader checks a probe before anything is asked, and gives its header.
func probeHeader(req *dispatcherv1.SendProbeRequest) (http.Header, error) {
	var broken []fault.Violation
	check := func(ok bool, field, rule string) {
		if !ok {
			broken = append(broken, fault.Violation{Field: field, Rule: rule})
		}
	}
	check(req.GetAccountId() != "", "account_id", "is required")
	check(req.GetWebhookId() != "", "webhook_id", "is required")
	check(slices.Contains([]string{http.MethodOptions, http.MethodPost}, req.GetMethod()), "method", "must be OPTIONS or POST")
	check(len(req.GetBody()) <= maxProbeBody, "body", fmt.Sprintf("must have at most %d bytes", maxProbeBody))
	framing := []string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Upgrade", "User-Agent"}
	header := make(http.Header, len(req.GetHeaders()))
	for name, value := range req.GetHeaders() {
		canonical := http.CanonicalHeaderKey(name)
		check(httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value) && !slices.Contains(framing, canonical),
			"headers", "must be headers of HTTP that do not frame it")
		header[canonical] = []string{value}
	}
	if len(broken) > 0 {
		return nil, fault.InvalidFields(broken...)
	}
	return header, nil
}
