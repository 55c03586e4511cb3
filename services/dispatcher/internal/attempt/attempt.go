// Package attempt makes one HTTP request of a delivery: rendered and signed by the webhook's
// profile, sent through the guarded egress, judged, and described for the journal. It keeps
// nothing.
package attempt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/services/dispatcher/internal/egress"
	"github.com/postrider/postrider/services/dispatcher/internal/outcome"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// Why attempts are made, as the journal names it.
const (
	TriggerSchedule = "schedule"
	TriggerTest     = "test"
	TriggerManual   = "manual"
)

// exchanger makes HTTP exchanges. *egress.Client is one.
type exchanger interface {
	Do(ctx context.Context, r *egress.Request) egress.Result
}

// Maker makes attempts. It is safe for concurrent use.
type Maker struct {
	client    exchanger
	tracer    trace.Tracer
	userAgent []string
}

// New returns a maker whose requests name the version.
func New(client exchanger, tracer trace.Tracer, version string) *Maker {
	return &Maker{client: client, tracer: tracer, userAgent: []string{"Postrider/" + version}}
}

// Input is what an attempt is made from. Nothing in it is changed.
type Input struct {
	Delivery *recordv1.Delivery
	Webhook  *registry.Webhook
	// Account owns both; nil if it is not known.
	Account *registry.Account
	// Data is the event's payload.
	Data []byte
	// Number is 1 for the first attempt of the schedule, 0 outside of it.
	Number int32
	// Trigger says why it is made.
	Trigger string
}

// Prepared is an attempt that is ready to be sent.
type Prepared struct {
	in       *Input
	ready    *registry.Ready
	rendered *profile.Rendered
	url      *url.URL
	span     trace.Span
	start    time.Time
}

// Result is what came of an attempt.
type Result struct {
	outcome.Verdict
	// Record is the attempt for the journal, without what its delivery became.
	Record *recordv1.Attempted
	// Start and End are when it was made.
	Start, End time.Time
	// Aborted says that our own end cut it off, so that nothing is known of the receiver. It must
	// not be recorded.
	Aborted bool
}

// ErrNotReady says that the attempt cannot be made because of our own trouble, such as a secret
// that cannot be opened. It is no fault of the delivery.
var ErrNotReady = errors.New("webhook is not ready")

// Prepare renders and signs. If the delivery can never be sent, the result says so and the
// prepared attempt is nil. An error wraps ErrNotReady.
func (m *Maker) Prepare(ctx context.Context, in *Input) (*Prepared, *Result, error) {
	ready, err := in.Webhook.Ready()
	if err != nil {
		return nil, nil, errors.Join(ErrNotReady, err)
	}
	p := &Prepared{in: in, ready: ready, start: time.Now()}
	input := profile.Input{Delivery: in.Delivery, Webhook: in.Webhook.Config, Account: in.Account.GetConfig(), Data: in.Data}
	p.rendered, err = ready.Profile.Render(&input)
	if err != nil {
		return m.refused(p, err)
	}
	p.rendered.Header["User-Agent"] = m.userAgent
	m.startSpan(ctx, p)
	profile.MergeHeaders(p.rendered.Header, in.Webhook.Config.GetHeaders())
	if err := p.sign(&input); err != nil {
		p.Discard()
		return m.refused(p, err)
	}
	// Only now are body and URL what they will be.
	if len(p.rendered.URL) > profile.MaxTargetBytes {
		p.Discard()
		return m.refused(p, profile.ErrURLTooLong)
	}
	if p.url = parsed(ready, p.rendered.URL, in.Webhook.Config.GetUrl()); p.url == nil {
		p.Discard()
		return m.refused(p, fmt.Errorf("%w: the rendered URL is not one", profile.ErrUnrenderable))
	}
	return p, nil, nil
}

// refused is what Prepare answers for an error of the profile: a result if the delivery can never
// be sent, else that the webhook is not ready.
func (m *Maker) refused(p *Prepared, err error) (*Prepared, *Result, error) {
	switch {
	case errors.Is(err, profile.ErrURLTooLong):
		return nil, m.failed(p, postrider.ClassURLTooLong, err.Error()), nil
	case errors.Is(err, profile.ErrUnrenderable):
		return nil, m.failed(p, postrider.ClassUnrendered, err.Error()), nil
	}
	return nil, nil, errors.Join(ErrNotReady, err)
}

func (p *Prepared) sign(input *profile.Input) error {
	signers, err := p.ready.Signers(p.in.Account, p.start)
	if err != nil {
		return err
	}
	return p.ready.Profile.Sign(p.rendered, input, profile.Attempt{
		Time: p.start, Number: int(p.in.Number), Secrets: p.ready.Secrets(p.start), Signers: signers,
	})
}

// parsed is the rendered URL, nil if it is none. In most profiles it is the configured one.
func parsed(ready *registry.Ready, rendered, configured string) *url.URL {
	if rendered == configured {
		return ready.URL
	}
	u, err := url.Parse(rendered)
	if err != nil {
		return nil
	}
	return u
}

// Fail is the result of an attempt that could not even be prepared, for a reason outside of this
// package.
func (m *Maker) Fail(in *Input, class postrider.ErrorClass, message string) *Result {
	return m.failed(&Prepared{in: in, start: time.Now()}, class, message)
}

// Discard gives up a prepared attempt that is not sent after all.
func (p *Prepared) Discard() {
	if p.span != nil {
		p.span.End()
	}
}

// Send sends a prepared attempt, which began when that was decided, and judges the answer.
func (m *Maker) Send(ctx context.Context, p *Prepared, began time.Time) *Result {
	answer := m.client.Do(ctx, &egress.Request{
		Method: p.rendered.Method, URL: p.url, Header: p.rendered.Header, Body: p.rendered.Body, Timeout: p.ready.Timeout,
	})
	end := answer.Start.Add(answer.Duration)
	r := &Result{Start: began, End: end, Aborted: answer.Aborted}
	r.Verdict = outcome.Classify(answer.Status, answer.Class, answer.Header.Get("Retry-After"), end)
	r.Record = m.describe(p, r, &answer)
	m.endSpan(p, r, answer.Status)
	return r
}

func (m *Maker) failed(p *Prepared, class postrider.ErrorClass, message string) *Result {
	r := &Result{Start: p.start, End: p.start, Verdict: outcome.Classify(0, class, "", p.start)}
	r.Record = newRecord(p.in, r)
	r.Record.ErrorMessage = clean(message, maxMessage)
	return r
}

func newRecord(in *Input, r *Result) *recordv1.Attempted {
	return &recordv1.Attempted{
		AttemptId:  string(postrider.NewAttemptID()),
		Number:     in.Number,
		Outcome:    string(r.Outcome),
		ErrorClass: string(r.Class),
		StartTime:  timestamppb.New(r.Start),
		DurationUs: r.End.Sub(r.Start).Microseconds(),
		Trigger:    in.Trigger,
		Series:     in.Delivery.GetProgress().GetSeries(),
	}
}

func (m *Maker) describe(p *Prepared, r *Result, answer *egress.Result) *recordv1.Attempted {
	a := newRecord(p.in, r)
	a.RequestMethod = p.rendered.Method
	a.RequestUrl = p.ready.MaskedURL
	if p.url != p.ready.URL {
		a.RequestUrl = registry.MaskURL(p.url)
	}
	a.RequestUrl = clean(a.RequestUrl, profile.MaxTargetBytes)
	a.RequestHeaders = requestHeaders(p.rendered.Header, p.in.Webhook.Config.GetHeaders())
	a.StatusCode = int32(answer.Status) //nolint:gosec // a status has three digits
	a.ResponseHeaders = responseHeaders(answer.Header)
	a.ResponseBody = answer.Body
	a.ResponseBodyTruncated = answer.Truncated
	a.Timings = timings(&answer.Trace)
	recordBody(a, p.rendered.Body, p.in.Data)
	hideAll(a, p.rendered.Sensitive)
	if answer.Class != postrider.ClassNone {
		a.ErrorMessage = clean(answer.Message, maxMessage)
	} else if r.Class != postrider.ClassNone {
		a.ErrorMessage = statusMessage(answer.Status)
	}
	return a
}

func statusMessage(status int) string {
	if text := http.StatusText(status); text != "" {
		return text
	}
	return "unknown status"
}
