package httpapi

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// What CloudEvents calls things.
const (
	headerPrefix      = "Ce-"
	headerSpecVersion = "Ce-Specversion"
	specVersion       = "1.0"
	// noContentType stands for the type of data that are absent: CloudEvents may have none.
	noContentType = "application/octet-stream"
)

// attribute takes one context attribute of a CloudEvent; ok is false if it is none of those that
// the envelope has a field for.
func (in *incoming) attribute(name, value string) (ok bool) {
	ev := in.event
	switch name {
	case "specversion":
		if value != specVersion {
			in.breaks("specversion", `must be "1.0"`)
		}
	case "id":
		ev.Id = value
	case "source":
		ev.Source = value
	case "type":
		ev.Type = value
	case "time":
		in.timeText("time", value, &ev.Time)
	default:
		return false
	}
	return true
}

// extension keeps an attribute that CloudEvents deliveries give back: subject, dataschema and
// everything that the specification does not know.
func (in *incoming) extension(name, value string) {
	if in.event.Extensions == nil {
		in.event.Extensions = make(map[string]string)
	}
	in.event.Extensions[name] = value
	if name == "traceparent" {
		in.traceparent = value
	}
}

// required checks that the attributes are there without which nothing is a CloudEvent.
func (in *incoming) required(specVersionGiven bool) {
	if !specVersionGiven {
		in.breaks("specversion", "is required")
	}
	if in.event.GetId() == "" {
		in.breaks("id", "is required")
	}
	if in.event.GetSource() == "" {
		in.breaks("source", "is required")
	}
}

// parseBinary reads a CloudEvent in binary mode: attributes are headers, the body is the data.
func parseBinary(header http.Header, body []byte) *incoming {
	in := &incoming{event: &postriderv1.EventInput{Data: body}}
	given := false
	for key, values := range header {
		if !strings.HasPrefix(key, headerPrefix) {
			continue
		}
		name := strings.ToLower(key[len(headerPrefix):])
		if len(values) != 1 {
			in.breaks(headerField(name), "must come once")
			continue
		}
		value, err := decodeHeader(values[0])
		if err != nil {
			in.breaks(headerField(name), err.Error())
			continue
		}
		given = given || name == "specversion"
		if !in.attribute(name, value) {
			in.extension(name, value)
		}
	}
	in.required(given)
	in.event.ContentType = header.Get("Content-Type")
	if in.event.GetContentType() == "" && len(body) == 0 {
		in.event.ContentType = noContentType
	}
	return in
}

// headerField names an attribute's header in errors.
func headerField(name string) string { return "ce-" + name }

// decodeHeader is the value of an attribute in a header (CloudEvents HTTP binding 1.0.2, 3.1.3.2):
// a double-quoted string is unquoted, then percent-encoding is decoded, once.
func decodeHeader(s string) (string, error) {
	if strings.HasPrefix(s, `"`) {
		var err error
		if s, err = unquote(s); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errPercent
		}
		pair, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", errPercent
		}
		b.Write(pair)
		i += 2
	}
	if !utf8.ValidString(b.String()) {
		return "", ruleError("must be UTF-8, percent-encoded")
	}
	return b.String(), nil
}

// ruleError is a rule that a value breaks.
type ruleError string

func (e ruleError) Error() string { return string(e) }

const (
	errPercent = ruleError("must be percent-encoded: '%' and two hexadecimal digits")
	errQuoted  = ruleError("must end its quotation where it ends")
)

// unquote reads a quoted string (RFC 9110, 5.6.4).
func unquote(s string) (string, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			if i != len(s)-1 {
				return "", errQuoted
			}
			return b.String(), nil
		case '\\':
			i++
			if i == len(s) {
				return "", errQuoted
			}
		}
		b.WriteByte(s[i])
	}
	return "", errQuoted
}

// parseStructured reads a CloudEvent in structured mode (CloudEvents JSON format 1.0.2).
func parseStructured(body []byte) (*incoming, error) {
	in := &incoming{event: &postriderv1.EventInput{}}
	var data payload
	given := false
	err := members(body, func(name string, value json.RawMessage) {
		switch name {
		case "data":
			data.value = value
			return
		case "data_base64":
			data.encoded = !isNull(value)
			in.base64(name, value, &data.bytes)
			return
		case "datacontenttype":
			in.text(name, value, &in.event.ContentType)
			return
		}
		if isNull(value) {
			return // an attribute that is null is unset
		}
		text, err := attributeText(value)
		if err != nil {
			in.breaks(name, err.Error())
			return
		}
		given = given || name == "specversion"
		if !in.attribute(name, text) {
			in.extension(name, text)
		}
	})
	if err != nil {
		return nil, err
	}
	in.required(given)
	in.data(&data, "datacontenttype")
	if data.value == nil && !data.encoded && in.event.GetContentType() == "" {
		in.event.ContentType = noContentType
	}
	return in, nil
}

// attributeText is the canonical text of an attribute's JSON value: a string, a boolean or an
// integer of 32 bits (CloudEvents 1.0.2, type system).
func attributeText(value json.RawMessage) (string, error) {
	switch c := value[0]; {
	case c == '"':
		in := incoming{}
		var text string
		if in.text("", value, &text); len(in.broken) > 0 {
			return "", ruleError(in.broken[0].Rule)
		}
		return text, nil
	case c == 't' || c == 'f':
		return string(value), nil
	case c == '-' || ('0' <= c && c <= '9'):
		n, err := strconv.ParseInt(string(value), 10, 32)
		if err != nil {
			return "", ruleError("must be an integer of 32 bits, if it is a number")
		}
		return strconv.FormatInt(n, 10), nil
	}
	return "", ruleError("must be a string, a boolean or an integer")
}

// parseBatch reads CloudEvents in batched mode. One that is malformed is refused alone.
func parseBatch(body []byte, limit int, parse func([]byte) (*incoming, error)) ([]*incoming, error) {
	all, err := elements(body, limit)
	if err != nil {
		return nil, err
	}
	events := make([]*incoming, len(all))
	for i, one := range all {
		in, err := parse(one)
		if err != nil {
			in = &incoming{}
			in.breaks(fmt.Sprintf("[%d]", i), err.Error())
		}
		events[i] = in
	}
	return events, nil
}
