package httpsig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// maxComponents is how many components one signature may cover. More has no use, and each costs.
const maxComponents = 64

// component is a parsed component identifier (RFC 9421, section 2).
type component struct {
	identity
	text string // the identifier as it stands in the signature base, with quotes and parameters
}

// identity tells whether two identifiers are one: the order of parameters does not count.
type identity struct {
	name  string
	key   string // parameter key: a member of a dictionary
	param string // parameter name: of a query parameter
	sf    bool
	bs    bool
	req   bool

	hasKey   bool
	hasParam bool
}

// parseComponent reads an identifier as Params.Components has it.
func parseComponent(text string) (component, error) {
	if simpleName(text) {
		c := component{identity{name: text}, `"` + text + `"`}
		return c, c.check()
	}
	quoted := text
	if !strings.HasPrefix(text, `"`) {
		name, params, found := strings.Cut(text, ";")
		quoted = `"` + name + `"`
		if found {
			quoted += ";" + params
		}
	}
	item, err := httpsfv.UnmarshalItem([]string{quoted})
	if err != nil {
		return component{}, fmt.Errorf("%w: component %.64q: %w", ErrMalformed, text, err)
	}
	return componentOf(item)
}

// simpleName reports whether the identifier is a name without parameters.
func simpleName(text string) bool {
	text = strings.TrimPrefix(text, "@")
	if text == "" {
		return false
	}
	for i := range len(text) {
		if c := text[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// componentOf reads a member of the list of covered components.
func componentOf(item httpsfv.Item) (component, error) {
	name, ok := item.Value.(string)
	if !ok {
		return component{}, fmt.Errorf("%w: a component that is no string", ErrMalformed)
	}
	c := component{identity: identity{name: name}}
	if !c.validName() {
		return component{}, fmt.Errorf("%w: component %.64q", ErrMalformed, name)
	}
	for _, p := range item.Params.Names() {
		v, _ := item.Params.Get(p)
		if err := c.setParameter(p, v); err != nil {
			return component{}, err
		}
	}
	if err := c.check(); err != nil {
		return component{}, err
	}
	text, err := httpsfv.Marshal(item)
	if err != nil {
		return component{}, fmt.Errorf("%w: component %.64q: %w", ErrMalformed, name, err)
	}
	c.text = text
	return c, nil
}

// validName holds for names of derived components and for lower-case names of fields.
func (c *component) validName() bool {
	name := strings.TrimPrefix(c.name, "@")
	return name != "" && validToken(name) && strings.ToLower(name) == name
}

func (c *component) setParameter(name string, value any) error {
	set := func(flag *bool) error {
		if value != true {
			return fmt.Errorf("%w: parameter %q of component %.64q is no flag", ErrMalformed, name, c.name)
		}
		*flag = true
		return nil
	}
	text := func(to *string, has *bool) error {
		s, ok := value.(string)
		if !ok {
			return fmt.Errorf("%w: parameter %q of component %.64q is no string", ErrMalformed, name, c.name)
		}
		*to, *has = s, true
		return nil
	}
	switch name {
	case "sf":
		return set(&c.sf)
	case "bs":
		return set(&c.bs)
	case "req":
		return set(&c.req)
	case "key":
		return text(&c.key, &c.hasKey)
	case "name":
		return text(&c.param, &c.hasParam)
	}
	return fmt.Errorf("%w: parameter %.64q of component %.64q", ErrUnsupported, name, c.name)
}

// check holds the parameters against the kind of component.
func (c *component) check() error {
	switch {
	case c.derived() && !slices.Contains(derivedNames, c.name):
		return fmt.Errorf("%w: component %.64q", ErrUnsupported, c.name)
	case c.derived() && (c.sf || c.bs || c.hasKey):
		return fmt.Errorf("%w: %s is no field, it takes none of sf, key and bs", ErrMalformed, c.name)
	case c.hasParam != (c.name == "@query-param"):
		return fmt.Errorf("%w: the parameter name belongs to @query-param and to nothing else", ErrMalformed)
	case c.bs && (c.sf || c.hasKey):
		return fmt.Errorf("%w: bs goes with neither sf nor key", ErrMalformed)
	case c.req && c.name == "@status":
		return fmt.Errorf("%w: a request has no @status", ErrMalformed)
	}
	return nil
}

func (c *component) derived() bool { return strings.HasPrefix(c.name, "@") }

func (c *component) same(other component) bool { return c.identity == other.identity }

// parseComponents reads a list of identifiers, each of which may be there once.
func parseComponents(texts []string) ([]component, error) {
	out := make([]component, 0, len(texts))
	for _, text := range texts {
		c, err := parseComponent(text)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, checkComponents(out)
}

func checkComponents(list []component) error {
	if len(list) > maxComponents {
		return fmt.Errorf("%w: more than %d components", ErrMalformed, maxComponents)
	}
	for i := range list {
		if slices.ContainsFunc(list[:i], list[i].same) {
			return fmt.Errorf("%w: component %s twice", ErrMalformed, list[i].text)
		}
	}
	return nil
}

// validToken holds for tokens of RFC 9110, as methods and names of fields are.
func validToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
