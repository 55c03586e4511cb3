package admission

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/postrider/postrider/pkg/ecmajson"
	"github.com/postrider/postrider/pkg/eventschema"
	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// schema is what the catalogue says of the data of an event type.
type schema struct {
	reject  bool // else it warns
	version string
	compile func() (*eventschema.Schema, error)
}

// newSchema is nil for a type whose data nobody looks at.
func newSchema(e *postriderv1.EventType) *schema {
	if len(e.GetSchema()) == 0 {
		return nil
	}
	switch e.GetSchemaPolicy() {
	case postriderv1.SchemaPolicy_SCHEMA_POLICY_WARN, postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT:
	case postriderv1.SchemaPolicy_SCHEMA_POLICY_UNSPECIFIED, postriderv1.SchemaPolicy_SCHEMA_POLICY_OFF:
		return nil
	}
	text := e.GetSchema()
	return &schema{
		reject:  e.GetSchemaPolicy() == postriderv1.SchemaPolicy_SCHEMA_POLICY_REJECT,
		version: strconv.Itoa(int(e.GetSchemaVersion())),
		compile: sync.OnceValues(func() (*eventschema.Schema, error) { return eventschema.Compile(text) }),
	}
}

// hold holds an event's data against the schema of its type.
func (s *schema) hold(req *Request) (warnings []string, err error) {
	compiled, cause := s.compile()
	switch { // the API takes no schema that cannot be compiled, so another version of it did
	case cause != nil && s.reject:
		return nil, errSchema(req.Event.GetType(), s.version, cause)
	case cause != nil:
		return []string{fmt.Sprintf("the schema of the event type %q cannot be used here", req.Event.GetType())}, nil //nolint:nilerr // it warns
	}
	var broken []eventschema.Violation
	if isJSON(req.Event) {
		broken = compiled.Validate(req.Event.GetData())
	} else {
		broken = []eventschema.Violation{{Rule: "must be JSON, which the schema is about"}}
	}
	switch {
	case len(broken) == 0:
		return nil, nil
	case s.reject:
		return nil, errViolations(req, s.version, broken)
	}
	for _, v := range broken {
		warnings = append(warnings, fmt.Sprintf("the data break version %s of the schema of %q: %s", s.version, req.Event.GetType(), v))
	}
	return warnings, nil
}

// isJSON is for an event whose content type was checked.
func isJSON(ev *postriderv1.EventInput) bool {
	if ev.GetContentType() == "" {
		return true
	}
	media, err := mediaType(ev.GetContentType())
	return err == nil && IsJSON(media)
}

func errSchema(eventType, version string, cause error) error {
	return fault.New(fault.Unavailable, ReasonSchemaUnusable, "the schema of the event type cannot be used here").
		WithMetadata("type", eventType).WithMetadata("schema_version", version).WithCause(cause)
}

func errViolations(req *Request, version string, broken []eventschema.Violation) error {
	fields := make([]fault.Violation, len(broken))
	for i, v := range broken {
		fields[i] = fault.Violation{Field: dataField(req.FieldPrefix, v.Pointer), Rule: v.Rule}
	}
	e := fault.InvalidFields(fields...)
	e.Reason = ReasonSchemaViolation
	return e.WithMetadata("type", req.Event.GetType()).WithMetadata("schema_version", version)
}

// dataField is the path of a place in the data, which fault turns back into a JSON pointer.
func dataField(prefix, pointer string) string {
	var b strings.Builder
	b.WriteString(prefix + "data")
	for _, token := range eventschema.Tokens(pointer) {
		switch {
		case plainName(token):
			b.WriteString("." + token)
		case index(token):
			b.WriteString("[" + token + "]")
		default:
			b.WriteString("[" + strconv.Quote(token) + "]")
		}
	}
	return b.String()
}

// plainName reports whether a name can stand in a path as it is.
func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return false
		}
	}
	return s != ""
}

func index(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// checkStable refuses JSON data that ECMAScript would not write as they are.
func checkStable(req *Request) error {
	if !isJSON(req.Event) {
		return nil
	}
	err := ecmajson.Stable(req.Event.GetData())
	if err == nil {
		return nil
	}
	rule := "must be as ECMAScript's JSON.stringify writes them"
	if diff, ok := errors.AsType[*ecmajson.Difference](err); ok {
		rule += fmt.Sprintf("; at byte %d: %s", diff.Offset, diff.Reason)
	}
	e := fault.InvalidFields(fault.Violation{Field: req.FieldPrefix + "data", Rule: rule})
	e.Reason = ReasonNotStable
	return e
}
