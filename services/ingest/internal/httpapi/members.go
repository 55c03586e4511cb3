package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// incoming is one event as it stood in a request.
type incoming struct {
	event *postriderv1.EventInput
	// key and account stand in JSON envelopes only.
	key     string
	account string
	// traceparent is what a CloudEvent carried as an extension attribute.
	traceparent string

	broken []fault.Violation
}

func (in *incoming) breaks(field, rule string) {
	in.broken = append(in.broken, fault.Violation{Field: field, Rule: rule})
}

// err is the error of the rules that the event breaks, or nil.
func (in *incoming) err() error {
	if len(in.broken) == 0 {
		return nil
	}
	return fault.InvalidFields(in.broken...)
}

// malformed is the error for a body that is not what it says.
func malformed(what string) error { return fault.New(fault.Invalid, ReasonMalformed, what) }

// members calls visit for each member of the JSON object that body is, with the member's value as
// it stands there. A name that comes twice is refused: which of the two counts is a matter of the
// reader, and nobody means it.
func members(body []byte, visit func(name string, value json.RawMessage)) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	start, err := dec.Token()
	if err != nil {
		return notJSON(dec, err)
	}
	if start != json.Delim('{') {
		return malformed("the body must be a JSON object")
	}
	seen := make(map[string]bool, 12)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return notJSON(dec, err)
		}
		name, ok := token.(string)
		if !ok {
			return malformed("the body must be a JSON object")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return notJSON(dec, err)
		}
		if seen[name] {
			return malformed(fmt.Sprintf("the member %q comes twice", name))
		}
		seen[name] = true
		visit(name, value)
	}
	if _, err := dec.Token(); err != nil {
		return notJSON(dec, err)
	}
	return atEnd(dec)
}

// elements are the elements of the JSON array that body is, as they stand there, at most limit.
func elements(body []byte, limit int) ([]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	start, err := dec.Token()
	if err != nil {
		return nil, notJSON(dec, err)
	}
	if start != json.Delim('[') {
		return nil, malformed("the body must be a JSON array")
	}
	var all []json.RawMessage
	for dec.More() {
		if len(all) == limit {
			return nil, fault.InvalidFields(fault.Violation{Field: "requests", Rule: fmt.Sprintf("must be at most %d", limit)})
		}
		var one json.RawMessage
		if err := dec.Decode(&one); err != nil {
			return nil, notJSON(dec, err)
		}
		all = append(all, one)
	}
	if _, err := dec.Token(); err != nil {
		return nil, notJSON(dec, err)
	}
	return all, atEnd(dec)
}

func atEnd(dec *json.Decoder) error {
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("there is something after the JSON value")
	}
	return nil
}

// notJSON says where the body stopped being JSON: after the last token that could be read.
func notJSON(dec *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("the body is not JSON: it ends too early")
	}
	what := "the body is not JSON"
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		what += ": " + syntax.Error()
	}
	return malformed(fmt.Sprintf("%s, after byte %d", what, dec.InputOffset()))
}

func isNull(value json.RawMessage) bool { return string(value) == "null" }

// text reads a string member; null is as good as absent.
func (in *incoming) text(field string, value json.RawMessage, into *string) {
	switch {
	case isNull(value):
	case value[0] != '"':
		in.breaks(field, "must be a string")
	case !utf8.Valid(value):
		in.breaks(field, "must be UTF-8")
	case json.Unmarshal(value, into) != nil:
		in.breaks(field, "must be a string")
	}
}

// time reads a time member (RFC 3339).
func (in *incoming) time(field string, value json.RawMessage, into **timestamppb.Timestamp) {
	var text string
	before := len(in.broken)
	in.text(field, value, &text)
	if isNull(value) || len(in.broken) > before {
		return
	}
	in.timeText(field, text, into)
}

func (in *incoming) timeText(field, text string, into **timestamppb.Timestamp) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		in.breaks(field, "must be a time as in RFC 3339, such as 2026-01-02T15:04:05Z")
		return
	}
	*into = timestamppb.New(t)
}

// texts reads a member that is an object of strings.
func (in *incoming) texts(field string, value json.RawMessage, into *map[string]string) {
	if isNull(value) {
		return
	}
	if !utf8.Valid(value) {
		in.breaks(field, "must be UTF-8")
		return
	}
	if err := json.Unmarshal(value, into); err != nil {
		*into = nil
		in.breaks(field, "must be an object of strings")
	}
}

// base64 reads bytes in standard or URL-safe base64, padded or not.
func (in *incoming) base64(field string, value json.RawMessage, into *[]byte) {
	var text string
	before := len(in.broken)
	in.text(field, value, &text)
	if isNull(value) || len(in.broken) > before {
		return
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	data, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		in.breaks(field, "must be base64")
		return
	}
	*into = data
}
