package eventschema

import (
	"errors"
	"maps"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// errOtherDocument says that a schema refers to what is not in it.
var errOtherDocument = errors.New("refers to another document")

// errEndless says that a schema cannot be applied to anything.
var errEndless = errors.New("refers to itself without end")

// nowhere loads nothing.
type nowhere struct{}

// Load implements jsonschema.URLLoader.
func (nowhere) Load(string) (any, error) { return nil, errOtherDocument }

// validator is a compiled schema whose work is counted. One goroutine at a time uses it.
type validator struct {
	schema *jsonschema.Schema
	left   int // work that may still be done
}

func newValidator(doc any) (*validator, error) {
	v := &validator{left: math.MaxInt}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nowhere{})
	c.UseRegexpEngine(v.regexp)
	if err := c.AddResource(location, doc); err != nil {
		return nil, err
	}
	var err error
	if v.schema, err = c.Compile(location); err != nil {
		return nil, err
	}
	m := meter{v: v, seen: make(map[*jsonschema.Schema]bool)}
	m.find(v.schema)
	state := make(map[*jsonschema.Schema]int)
	for s := range m.seen {
		if endless(s, state) {
			return nil, errEndless
		}
	}
	m.attach()
	return v, nil
}

// tooMuch is what a validator panics with when its work is used up: the library has no other way
// out. check alone recovers it.
type tooMuch struct{}

func (v *validator) spend(n int) {
	if v.left -= n; v.left < 0 {
		panic(tooMuch{})
	}
}

// countedRegexp counts what a match costs at worst, which is the product of two lengths.
type countedRegexp struct {
	*regexp.Regexp
	v    *validator
	size int
}

// MatchString implements jsonschema.Regexp.
func (r countedRegexp) MatchString(s string) bool {
	r.v.spend(1 + len(s)*r.size/64)
	return r.Regexp.MatchString(s)
}

func (v *validator) regexp(text string) (jsonschema.Regexp, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return countedRegexp{re, v, len(prog.Inst)}, nil
}

// meter makes every subschema count its work before it does it. It stands where the library checks
// formats, which it does before it looks at anything that a value or a schema holds; formats
// themselves are annotations. What the library checks still earlier (the type, constants) costs
// little and is counted with the schema around it.
type meter struct {
	v           *validator
	seen        map[*jsonschema.Schema]bool
	unevaluated bool // some subschema asks what others left over, so all keep lists of it
}

// find walks the schema.
func (m *meter) find(s *jsonschema.Schema) {
	if s == nil || m.seen[s] {
		return
	}
	m.seen[s] = true
	m.unevaluated = m.unevaluated || s.UnevaluatedItems != nil || s.UnevaluatedProperties != nil
	for _, one := range []*jsonschema.Schema{
		s.Ref, s.Not, s.If, s.Then, s.Else, s.PropertyNames, s.Contains, s.Items2020,
		s.UnevaluatedItems, s.UnevaluatedProperties,
	} {
		m.find(one)
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems} {
		for _, one := range list {
			m.find(one)
		}
	}
	for _, members := range []map[string]*jsonschema.Schema{s.Properties, s.DependentSchemas} {
		for _, one := range members {
			m.find(one)
		}
	}
	for _, one := range s.PatternProperties {
		m.find(one)
	}
	if one, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		m.find(one)
	}
	for _, d := range s.Dependencies {
		if one, ok := d.(*jsonschema.Schema); ok {
			m.find(one)
		}
	}
}

// attach lets every schema that was found count.
func (m *meter) attach() {
	for s := range m.seen {
		// Those that are applied to the same value.
		same := 4 + len(s.AllOf) + len(s.AnyOf) + len(s.OneOf) + len(s.DependentSchemas) + len(s.Dependencies) +
			len(s.Required)/8 + len(s.DependentRequired)
		s.Format = &jsonschema.Format{Name: "work", Validate: func(value any) error {
			inside := 0
			switch value := value.(type) {
			case []any:
				inside = len(value)
			case map[string]any:
				inside = len(value)
			}
			if m.unevaluated {
				m.v.spend(same * (1 + inside))
			} else {
				m.v.spend(same + inside)
			}
			return nil
		}}
	}
}

// endless reports whether a schema is applied, for one value, within itself.
func endless(s *jsonschema.Schema, state map[*jsonschema.Schema]int) bool {
	const open, done = 1, 2
	if s == nil || state[s] == done {
		return false
	}
	if state[s] == open {
		return true
	}
	state[s] = open
	same := slices.Concat([]*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else}, s.AllOf, s.AnyOf, s.OneOf,
		slices.Collect(maps.Values(s.DependentSchemas)))
	for _, d := range s.Dependencies {
		if one, ok := d.(*jsonschema.Schema); ok {
			same = append(same, one)
		}
	}
	for _, one := range same {
		if endless(one, state) {
			return true
		}
	}
	state[s] = done
	return false
}
