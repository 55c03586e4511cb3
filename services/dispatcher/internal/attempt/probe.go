package attempt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// Answer is what a receiver answered to a probe.
type Answer struct {
	// Status is 0 without a response.
	Status int32
	// Headers are the response's; several of one name are joined with ", ".
	Headers map[string]string
	// Class says why there is no response.
	Class postrider.ErrorClass
	// Message tells people more about Class.
	Message string
}

// errAborted means that our own end cut a probe off.
var errAborted = errors.New("the probe was cut off")

// Probe makes one request to the webhook's URL that is no delivery. It passes the same guard and the
// same bounds as an attempt. An error wraps ErrNotReady, or says that nothing is known.
func (m *Maker) Probe(ctx context.Context, w *registry.Webhook, method string, header http.Header, body []byte) (*Answer, error) {
	ready, err := w.Ready()
	if err != nil {
		return nil, errors.Join(ErrNotReady, err)
	}
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header["User-Agent"] = m.userAgent
	if len(body) == 0 {
		body = nil // no request has a body of no bytes
	}
	got := m.client.Do(ctx, &egress.Request{Method: method, URL: ready.URL, Header: header, Body: body, Timeout: ready.Timeout})
	if got.Aborted {
		return nil, fmt.Errorf("%w: %w", errAborted, context.Cause(ctx))
	}
	a := &Answer{
		Status: int32(got.Status), //nolint:gosec // a status has three digits
		Class:  got.Class, Message: clean(got.Message, maxMessage), Headers: make(map[string]string, len(got.Header)),
	}
	// The whole of a response's header section is bounded by the exchange; none of it may be left
	// out, as the answer is in it.
	for name, values := range got.Header {
		a.Headers[clean(name, maxHeaderName)] = clean(strings.Join(values, ", "), maxHeaderValue)
	}
	return a, nil
}
