package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// maxBody bounds what is read of a request.
const maxBody = 24 << 20

// receiver answers webhooks and prints them.
type receiver struct {
	p        *program
	check    *checker
	statuses []int
	delay    time.Duration
	enough   chan struct{} // closed after the last request that was asked for

	mu     sync.Mutex
	opened chan struct{}
	count  int
	left   int // requests to come; 0 for no end
	over   bool
	wrong  int // signatures
	err    error
}

// arrival is one request as it is printed.
type arrival struct {
	Number    int               `json:"number"`
	Time      time.Time         `json:"time"`
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Headers   map[string]string `json:"headers"`
	Signature string            `json:"signature"` // "valid", "unchecked" or "invalid"
	Reason    string            `json:"reason,omitempty"`
	Status    int               `json:"status"` // the answer
	Body      json.RawMessage   `json:"body,omitempty"`
	Base64    string            `json:"body_base64,omitempty"` // of a body that is no JSON
}

// open lets requests in: until then they wait, for the secret that they are checked with.
func (r *receiver) open() { close(r.gate()) }

func (r *receiver) gate() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened == nil {
		r.opened = make(chan struct{})
	}
	return r.opened
}

// ServeHTTP takes one webhook.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case <-r.gate():
	case <-req.Context().Done():
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	status := r.take(req, body)
	if r.delay > 0 {
		wait := time.NewTimer(r.delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-req.Context().Done():
			return
		}
	}
	w.WriteHeader(status)
}

// take prints a request and says what to answer.
func (r *receiver) take(req *http.Request, body []byte) int {
	verr := r.check.verify(req, body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return http.StatusServiceUnavailable // tried again later, by which time somebody else may listen
	}
	status := r.statuses[min(r.count, len(r.statuses)-1)]
	r.count++
	a := arrival{
		Number: r.count, Time: r.p.now().UTC(), Method: req.Method, Path: req.URL.RequestURI(),
		Headers: mattering(req.Header), Signature: "valid", Status: status,
	}
	switch {
	case errors.Is(verr, errUnchecked):
		a.Signature, a.Reason = "unchecked", verr.Error()
	case verr != nil:
		a.Signature, a.Reason = "invalid", verr.Error()
		r.wrong++
	}
	if err := r.print(&a, body); err != nil && r.err == nil {
		r.err = err
	}
	if r.left > 0 {
		if r.left--; r.left == 0 {
			r.over = true
			close(r.enough)
		}
	}
	return status
}

// verdict is the error of the whole.
func (r *receiver) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	if r.wrong > 0 {
		return failf("%d of %d signatures were wrong", r.wrong, r.count)
	}
	return nil
}

func (r *receiver) print(a *arrival, body []byte) error {
	if r.p.globals.output == outputJSON {
		if json.Valid(body) {
			a.Body = body
		} else {
			a.Base64 = base64.StdEncoding.EncodeToString(body)
		}
		return json.NewEncoder(r.p.Out).Encode(a)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n#%d  %s  %s %s  answered %d\n", a.Number, a.Time.Format("15:04:05.000"), a.Method, printable(a.Path), a.Status)
	for _, name := range sortedKeys(a.Headers) {
		fmt.Fprintf(&b, "    %s: %s\n", name, printable(a.Headers[name]))
	}
	fmt.Fprintf(&b, "    signature %s", a.Signature)
	if a.Reason != "" {
		fmt.Fprintf(&b, ": %s", a.Reason)
	}
	b.WriteString("\n")
	for line := range strings.Lines(readable(body)) {
		b.WriteString("    " + printable(strings.TrimRight(line, "\n")) + "\n")
	}
	_, err := io.WriteString(r.p.Out, b.String())
	return err
}

// mattering are the headers that say what a webhook is.
func mattering(h http.Header) map[string]string {
	out := map[string]string{}
	for name, values := range h {
		lower := strings.ToLower(name)
		named := slices.Contains([]string{"content-type", "content-digest", "user-agent", "traceparent", "stripe-signature"}, lower)
		family := func(prefix string) bool { return strings.HasPrefix(lower, prefix) }
		if named || slices.ContainsFunc([]string{"webhook-", "x-", "ce-", "svix-", "signature"}, family) {
			out[lower] = strings.Join(values, ", ")
		}
	}
	return out
}

// readable is the beginning of a body for people: JSON over several lines, other text as it is.
func readable(body []byte) string {
	const most = 4 << 10
	var pretty bytes.Buffer
	switch {
	case len(body) == 0:
		return ""
	case json.Indent(&pretty, body, "", "  ") == nil:
		body = pretty.Bytes()
	case !utf8.Valid(body):
		return fmt.Sprintf("(%d bytes that are no text)", len(body))
	}
	if len(body) > most {
		return strings.ToValidUTF8(string(body[:most]), "") + "\n..."
	}
	return string(body)
}
