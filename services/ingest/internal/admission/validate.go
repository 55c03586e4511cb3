package admission

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Limits of an event's fields, as the public API states them.
const (
	maxKeyBytes         = 255 // id, idempotency key
	maxSourceBytes      = 255
	maxOrderingKeyBytes = 255
	maxContentTypeBytes = 255
	maxLabels           = 32
	maxLabelKeyBytes    = 63
	maxLabelValueBytes  = 255
	maxExtensions       = 32
	maxExtensionName    = 63
	maxExtensionBytes   = 1024
)

// DefaultContentType is the media type of data that names none.
const DefaultContentType = "application/json"

// checker collects the broken rules of one request.
type checker struct {
	prefix     string // of the event's own fields
	violations []fault.Violation
	tooLong    bool // the data are
}

func (c *checker) add(field, rule string) {
	c.violations = append(c.violations, fault.Violation{Field: field, Rule: rule})
}

func (c *checker) event(field, rule string) { c.add(c.prefix+field, rule) }

// check returns every broken rule of the request. It does not look at the account.
func (c *checker) check(req *Request, cfg *Config, now time.Time) []fault.Violation {
	ev := req.Event
	if req.IdempotencyKey != "" && !visibleASCII(req.IdempotencyKey, maxKeyBytes) {
		c.add("idempotency_key", ruleVisible)
	}
	if ev == nil {
		c.add(strings.TrimSuffix(c.prefix, "."), "is required")
		return c.violations
	}
	if ev.GetType() == "" {
		c.event("type", "is required")
	} else if err := match.CheckEventType(ev.GetType()); err != nil {
		c.event("type", err.Error())
	} else if match.Reserved(ev.GetType()) {
		c.event("type", "must not begin with \"postrider.\": those are Postrider's own")
	}
	if ev.GetId() != "" && !visibleASCII(ev.GetId(), maxKeyBytes) {
		c.event("id", ruleVisible)
	}
	c.text("source", ev.GetSource(), maxSourceBytes)
	c.text("ordering_key", ev.GetOrderingKey(), maxOrderingKeyBytes)
	c.times(ev, cfg, now)
	c.labels(ev.GetLabels())
	c.extensions(ev.GetExtensions())
	c.data(ev, cfg)
	return c.violations
}

// fault is what the producer is told. Data that are too long have a status of their own in HTTP, if
// nothing else is wrong.
func (c *checker) fault() error {
	e := fault.InvalidFields(c.violations...)
	if c.tooLong && len(c.violations) == 1 {
		return e.WithStatus(http.StatusRequestEntityTooLarge)
	}
	return e
}

var ruleVisible = "must be 1 to " + strconv.Itoa(maxKeyBytes) + " visible ASCII characters"

// visibleASCII reports whether s is 1 to limit characters from '!' to '~'.
func visibleASCII(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}

// text checks a field that ends up in headers: UTF-8 without control characters.
func (c *checker) text(field, s string, limit int) {
	if len(s) > limit {
		c.event(field, fmt.Sprintf("must be at most %d bytes", limit))
	}
	if !plain(s) {
		c.event(field, rulePlain)
	}
}

const rulePlain = "must be UTF-8 without control characters"

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

func (c *checker) times(ev *postriderv1.EventInput, cfg *Config, now time.Time) {
	c.timestamp("time", ev.GetTime())
	if c.timestamp("deliver_at", ev.GetDeliverAt()) && ev.GetDeliverAt().AsTime().Sub(now) > cfg.MaxDelay {
		c.event("deliver_at", "must be at most "+days(cfg.MaxDelay)+" ahead")
	}
}

// timestamp checks a timestamp; ok is true if there is one and it is valid.
func (c *checker) timestamp(field string, t *timestamppb.Timestamp) (ok bool) {
	if t == nil {
		return false
	}
	if err := t.CheckValid(); err != nil {
		c.event(field, "must be a time from year 1 to 9999")
		return false
	}
	return true
}

func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	}
	return d.String()
}

func (c *checker) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		c.event("labels", fmt.Sprintf("must be at most %d labels", maxLabels))
		return
	}
	for key, value := range labels {
		if key == "" || len(key) > maxLabelKeyBytes || !plain(key) {
			c.event("labels", fmt.Sprintf("keys must be 1 to %d bytes of UTF-8 without control characters", maxLabelKeyBytes))
			continue
		}
		field := "labels[" + strconv.Quote(key) + "]"
		if len(value) > maxLabelValueBytes {
			c.event(field, fmt.Sprintf("must be at most %d bytes", maxLabelValueBytes))
		}
		if !plain(value) {
			c.event(field, rulePlain)
		}
	}
}

// reserved are the names of CloudEvents context attributes that are fields of their own, and of
// the members that hold data.
var reserved = map[string]bool{
	"id": true, "source": true, "specversion": true, "type": true, "time": true,
	"datacontenttype": true, "data": true, "data_base64": true,
}

func (c *checker) extensions(extensions map[string]string) {
	if len(extensions) > maxExtensions {
		c.event("extensions", fmt.Sprintf("must be at most %d extensions", maxExtensions))
		return
	}
	for name, value := range extensions {
		switch {
		case !extensionName(name):
			c.event("extensions", fmt.Sprintf("names must be 1 to %d lower-case letters and digits", maxExtensionName))
			continue
		case reserved[name]:
			c.event("extensions["+strconv.Quote(name)+"]", "is a CloudEvents attribute with a field of its own")
			continue
		}
		field := "extensions[" + strconv.Quote(name) + "]"
		if len(value) > maxExtensionBytes {
			c.event(field, fmt.Sprintf("must be at most %d bytes", maxExtensionBytes))
		}
		if !plain(value) {
			c.event(field, rulePlain)
		}
	}
}

// extensionName follows the CloudEvents rule for attribute names.
func extensionName(name string) bool {
	if name == "" || len(name) > maxExtensionName {
		return false
	}
	for i := range len(name) {
		if ch := name[i]; (ch < 'a' || ch > 'z') && (ch < '0' || ch > '9') {
			return false
		}
	}
	return true
}

// data checks the payload without changing it: what claims to be JSON is JSON.
func (c *checker) data(ev *postriderv1.EventInput, cfg *Config) {
	if len(ev.GetData()) > cfg.MaxDataBytes {
		c.event("data", fmt.Sprintf("must be at most %d bytes", cfg.MaxDataBytes))
		c.tooLong = true
		return
	}
	contentType := ev.GetContentType()
	if contentType == "" {
		contentType = DefaultContentType
	}
	media, err := mediaType(contentType)
	if err != nil {
		c.event("content_type", err.Error())
		return
	}
	if IsJSON(media) && !json.Valid(ev.GetData()) {
		c.event("data", "must be well-formed JSON, as content_type says")
	}
}

type ruleError string

func (e ruleError) Error() string { return string(e) }

// mediaType is the lower-case media type without its parameters.
func mediaType(contentType string) (string, error) {
	if contentType == DefaultContentType {
		return contentType, nil
	}
	if len(contentType) > maxContentTypeBytes {
		return "", ruleError(fmt.Sprintf("must be at most %d bytes", maxContentTypeBytes))
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.Contains(media, "/") || !printableASCII(contentType) {
		return "", ruleError("must be a media type, such as application/json")
	}
	return media, nil
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// IsJSON reports whether data of a media type (lower-case, without parameters) is JSON (RFC 6839).
func IsJSON(media string) bool {
	return media == DefaultContentType || media == "text/json" || strings.HasSuffix(media, "+json")
}
