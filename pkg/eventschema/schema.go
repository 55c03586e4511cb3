// Package eventschema compiles the schemas of event types (JSON Schema 2020-12), holds data
// against them, and says where a new schema refuses what the one before took.
//
// Schemas and data come from accounts, so both are bounded: a schema in size, depth and number of
// subschemas, and the work on an event by counting it. What takes too much work breaks the schema.
// Keywords are those of the core, applicator, unevaluated and validation vocabularies; `format`
// and the content keywords are annotations, as the specification has it by default. Nothing is ever
// loaded: a reference to another document is a fault of the schema. The package is pure and keeps
// nothing.
package eventschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of schemas.
const (
	// MaxBytes bounds a schema's text.
	MaxBytes = 64 << 10
	// maxDepth bounds how deep a schema's text is nested.
	maxDepth = 64
	// maxObjects bounds the objects and booleans of a schema's text, all of which may be subschemas.
	maxObjects = 4096
)

// dialect is the one that schemas are written in.
const dialect = "https://json-schema.org/draft/2020-12/schema"

// location is the schema's own address, which relative references are resolved against.
const location = "postrider:///schema"

// Violation is one rule that a value breaks.
type Violation struct {
	// Pointer says where in the value, as a JSON pointer (RFC 6901).
	Pointer string
	// Keyword says by which keyword, as a JSON pointer into the schema; empty if no keyword says so.
	Keyword string
	// Rule says what should be so, for people. It holds nothing of the value but names of members.
	Rule string
}

// String is the violation on one line.
func (v Violation) String() string {
	if v.Pointer == "" {
		return v.Rule
	}
	return v.Pointer + ": " + v.Rule
}

// InvalidError says what is wrong with the text of a schema.
type InvalidError struct {
	// Violations are the broken rules, with pointers into the schema.
	Violations []Violation
}

// Error lists the violations.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		lines[i] = v.String()
	}
	return strings.Join(lines, "; ")
}

// Schema is a compiled schema. It may be used from any goroutine.
type Schema struct {
	doc     any
	largest int // of its lists of constants, in values: what a look at one value may cost
	// validators are handed out to one goroutine each; those that were never needed are nil.
	validators chan *validator
}

// Compile reads a schema. Its error is an *InvalidError.
func Compile(text []byte) (*Schema, error) {
	if len(text) > MaxBytes {
		return nil, invalid("", fmt.Sprintf("must be at most %d bytes", MaxBytes))
	}
	doc, _, err := decode(text, maxDepth)
	if err != nil {
		return nil, err
	}
	sv := survey{}
	if err := sv.walk("", doc); err != nil {
		return nil, err
	}
	s := &Schema{doc: doc, largest: sv.largest, validators: make(chan *validator, runtime.GOMAXPROCS(0))}
	first, err := newValidator(doc)
	if err != nil {
		return nil, explain(err)
	}
	s.validators <- first
	for range cap(s.validators) - 1 {
		s.validators <- nil
	}
	return s, nil
}

func invalid(pointer, rule string) error {
	return &InvalidError{[]Violation{{Pointer: pointer, Rule: rule}}}
}

// survey looks at a schema's text before it is compiled. It does not know where subschemas stand,
// so what it refuses may stand nowhere.
type survey struct {
	objects int // and booleans
	largest int // list of constants
}

func (s *survey) walk(pointer string, v any) error {
	switch v := v.(type) {
	case bool:
		return s.count(pointer)
	case []any:
		for i, item := range v {
			if err := s.walk(fmt.Sprintf("%s/%d", pointer, i), item); err != nil {
				return err
			}
		}
	case map[string]any:
		if err := s.count(pointer); err != nil {
			return err
		}
		if named, ok := v["$schema"].(string); ok && strings.TrimSuffix(named, "#") != dialect {
			return invalid(pointer+"/$schema", "must be "+dialect)
		}
		if _, ok := v["$dynamicRef"].(string); ok {
			return invalid(pointer+"/$dynamicRef", "is not taken; use $ref")
		}
		s.largest = max(s.largest, weigh(v["enum"])+weigh(v["const"]))
		for name, member := range v {
			if err := s.walk(pointer+"/"+escape(name), member); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *survey) count(pointer string) error {
	if s.objects++; s.objects > maxObjects {
		return invalid(pointer, fmt.Sprintf("a schema must have at most %d objects and booleans", maxObjects))
	}
	return nil
}

// weigh counts the values in v.
func weigh(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			n += weigh(item)
		}
	case map[string]any:
		for _, member := range v {
			n += weigh(member)
		}
	}
	return n
}

// explain says what is wrong with a schema that does not compile.
func explain(err error) error {
	if broken, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if tree, ok := errors.AsType[*jsonschema.ValidationError](broken.Err); ok {
			return &InvalidError{violations(tree)}
		}
	}
	if re, ok := errors.AsType[*jsonschema.InvalidRegexError](err); ok {
		_, pointer, _ := strings.Cut(re.URL, "#")
		return invalid(unescapeFragment(pointer), "is no regular expression: "+brief(re.Err.Error()))
	}
	if errors.Is(err, errEndless) {
		return invalid("", errEndless.Error())
	}
	if errors.Is(err, errOtherDocument) {
		return invalid("", errOtherDocument.Error())
	}
	if load, ok := errors.AsType[*jsonschema.LoadURLError](err); ok && load != nil {
		return invalid("", errOtherDocument.Error())
	}
	return invalid("", brief(strings.ReplaceAll(err.Error(), location, "")))
}

// brief bounds a text that another package wrote, or that stands in a schema.
func brief(s string) string { return cut(s, 200) }

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// compact is the text of a decoded value, members sorted.
func compact(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // decoded values always encode
		return err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}
