package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// envelopeRoom is what an event may need in a body beside its data.
const envelopeRoom = 128 << 10

// mode is how a request carries its events.
type mode int

const (
	modeEnvelope mode = iota + 1
	modeEnvelopes
	modeBinary
	modeStructured
	modeBatch
)

// publish accepts the events of a request.
func (a *API) publish(w http.ResponseWriter, r *http.Request, p access.Principal) {
	// For the body alone: the server lifts it when the body has ended.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.cfg.BodyTimeout))
	body := bufio.NewReader(r.Body)
	m, err := modeOf(r, body)
	if err != nil {
		refuse(w, r, err)
		return
	}
	all, err := a.read(w, r, body, m)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if m == modeEnvelopes || m == modeBatch {
		a.publishAll(w, r, p, all, m)
		return
	}
	a.publishOne(w, r, p, all, m)
}

// modeOf tells the mode by the media type; a JSON array is a batch of envelopes. An envelope needs
// no media type, everything else does.
func modeOf(r *http.Request, body *bufio.Reader) (mode, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return 0, unsupported("bodies must not be compressed")
	}
	contentType := r.Header.Get("Content-Type")
	_, binary := r.Header[headerSpecVersion]
	media, params, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil && !binary {
		return 0, unsupported("the content type cannot be read")
	}
	if charset := params["charset"]; !binary && charset != "" && !strings.EqualFold(charset, "utf-8") {
		return 0, unsupported("the charset must be utf-8")
	}
	switch {
	case media == "application/cloudevents+json":
		return modeStructured, nil
	case media == "application/cloudevents-batch+json":
		return modeBatch, nil
	case strings.HasPrefix(media, "application/cloudevents"):
		return 0, unsupported("CloudEvents are taken in binary mode and as JSON")
	case binary:
		return modeBinary, nil
	case media == admission.DefaultContentType, contentType == "":
		if startsArray(body) {
			return modeEnvelopes, nil
		}
		return modeEnvelope, nil
	}
	return 0, unsupported("events are taken as application/json and as CloudEvents (ce- headers, application/cloudevents+json, application/cloudevents-batch+json)")
}

func unsupported(what string) error {
	return fault.New(fault.Invalid, ReasonMediaType, what).WithStatus(http.StatusUnsupportedMediaType)
}

// startsArray reports whether the first byte that is not white space begins a JSON array.
func startsArray(body *bufio.Reader) bool {
	for n := 1; n <= body.Size(); n++ {
		peeked, err := body.Peek(n)
		if err != nil {
			return false
		}
		switch peeked[n-1] {
		case ' ', '\t', '\r', '\n':
		default:
			return peeked[n-1] == '['
		}
	}
	return false
}

// read reads a body whole, within the bound of its mode.
func (a *API) read(w http.ResponseWriter, r *http.Request, body io.Reader, m mode) ([]byte, error) {
	limit := a.cfg.MaxBatchBytes
	switch m {
	case modeBinary:
		limit = int64(a.cfg.MaxDataBytes)
	case modeEnvelope, modeStructured:
		limit = int64(a.cfg.MaxDataBytes)/3*4 + envelopeRoom // data may stand there as base64
	case modeEnvelopes, modeBatch:
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	var all bytes.Buffer
	if r.ContentLength > 0 {
		all.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	n, err := all.ReadFrom(io.LimitReader(body, limit+1))
	if n > limit {
		w.Header().Set("Connection", "close") // the rest of the body is not read
		return nil, tooLarge(limit)
	}
	if err != nil {
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, fault.New(fault.Deadline, ReasonMalformed, "the body did not arrive in time").WithStatus(http.StatusRequestTimeout)
		}
		return nil, malformed("the body did not arrive whole")
	}
	return all.Bytes(), nil
}

func tooLarge(limit int64) error {
	return fault.New(fault.Invalid, ReasonTooLarge, fmt.Sprintf("the body must be at most %d bytes", limit)).
		WithStatus(http.StatusRequestEntityTooLarge)
}

// publishOne accepts one event and answers 202 with its receipt.
func (a *API) publishOne(w http.ResponseWriter, r *http.Request, p access.Principal, body []byte, m mode) {
	in, err := parseOne(r, m, body)
	if err != nil {
		refuse(w, r, err)
		return
	}
	key, rule := idempotencyKey(r.Header)
	switch {
	case rule != "":
		in.breaks("idempotency_key", rule)
	case key != "" && in.key != "" && key != in.key:
		in.breaks("idempotency_key", "must be the same as in header Idempotency-Key")
	case key != "":
		in.key = key
	}
	req, err := request(r, p, in)
	if err != nil {
		refuse(w, r, err)
		return
	}
	receipt, err := a.events.Accept(r.Context(), req)
	if err != nil {
		refuse(w, r, err)
		return
	}
	if receipt.GetDuplicate() {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	w.Header().Set("Location", pathEvents+"/"+receipt.GetEventId())
	answer(w, http.StatusAccepted, &postriderv1.PublishEventResponse{Receipt: receipt})
}

// parseOne reads the event of a request that has one.
func parseOne(r *http.Request, m mode, body []byte) (*incoming, error) {
	switch m {
	case modeBinary:
		return parseBinary(r.Header, body), nil
	case modeStructured:
		return parseStructured(body)
	case modeEnvelope, modeEnvelopes, modeBatch:
	}
	return parseEnvelope(body)
}

// publishAll accepts each event of a batch on its own. 202 means that all are stored; 207 that the
// verdicts have to be read.
func (a *API) publishAll(w http.ResponseWriter, r *http.Request, p access.Principal, body []byte, m mode) {
	parse := parseStructured
	if m == modeEnvelopes {
		parse = parseEnvelope
	}
	if len(r.Header.Values("Idempotency-Key")) > 0 {
		refuse(w, r, fault.InvalidFields(fault.Violation{
			Field: "idempotency_key", Rule: "must stand with each event of a batch, not in header Idempotency-Key",
		}))
		return
	}
	all, err := parseBatch(body, a.cfg.MaxBatch, parse)
	if err != nil {
		refuse(w, r, err)
		return
	}
	verdicts := make([]*postriderv1.PublishVerdict, len(all))
	var reqs []*admission.Request
	var places []int
	for i, in := range all {
		req, err := request(r, p, in)
		if err != nil {
			verdicts[i] = admission.Verdict{Err: err}.Public()
			continue
		}
		reqs, places = append(reqs, req), append(places, i)
	}
	refused := len(reqs) < len(all)
	for i, v := range a.events.AcceptAll(r.Context(), reqs) {
		verdicts[places[i]] = v.Public()
		refused = refused || v.Err != nil
	}
	code := http.StatusAccepted
	if refused {
		code = http.StatusMultiStatus
	}
	answer(w, code, &postriderv1.BatchPublishEventsResponse{Verdicts: verdicts})
}

// request is what admission is asked for one event.
func request(r *http.Request, p access.Principal, in *incoming) (*admission.Request, error) {
	named := in.account
	if named == "" {
		named = r.URL.Query().Get("account_id")
	}
	var account postrider.AccountID
	account, err := p.For(named)
	if err != nil {
		return nil, err
	}
	if err := in.err(); err != nil {
		return nil, err
	}
	sent := r.Header.Get("Traceparent")
	if sent == "" {
		sent = in.traceparent
	}
	return &admission.Request{
		Account: account, Event: in.event, IdempotencyKey: in.key,
		Traceparent: admission.Traceparent(r.Context(), sent),
	}, nil
}

// form is how answers are written: as the REST API does, with the names of the protos.
var form = protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}

// answer writes a message as JSON.
func answer(w http.ResponseWriter, code int, m proto.Message) {
	body, err := form.Marshal(m)
	if err != nil { // a string that is not UTF-8, which admission takes from nobody
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", admission.DefaultContentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the producer may be gone; there is nobody left to tell
}
