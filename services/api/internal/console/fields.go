package console

import (
	"net/url"
	"strconv"
)

// field is one input of a form.
type field struct {
	Name, Label, Type  string
	Help, Placeholder  string
	Value, Error, Step string
	Required           bool
	Rows               int
	Options            []option
	List               []string // what the reader may mean
}

type option struct{ Value, Label string }

// formFields makes fields whose texts are those of the form's keys, and whose values and errors are
// given by name.
type formFields struct {
	words  words
	form   string // beginning of the keys
	values url.Values
	errors map[string]string
}

func (f *formFields) text(name string) field {
	key := f.form + "." + name
	return field{
		Name: name, Type: "text", Label: f.words.get(key), Help: f.words.or(key+".help", ""), Placeholder: f.words.or(key+".like", ""),
		Value: f.values.Get(name), Error: f.errors[name],
	}
}

func (f *formFields) required(name string) field {
	out := f.text(name)
	out.Required = true
	return out
}

func (f *formFields) area(name string, rows int) field {
	out := f.text(name)
	out.Type, out.Rows = "area", rows
	return out
}

func (f *formFields) number(name, step string) field {
	out := f.text(name)
	out.Type, out.Step = "number", step
	return out
}

func (f *formFields) choose(name string, options ...option) field {
	out := f.text(name)
	out.Type, out.Options = "select", options
	return out
}

// parse reads a number, or names the field.
func (f *formFields) parse(name, text string, errs map[string]string) float64 {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1e6 {
		errs[name] = f.words.get("form.number")
		return 0
	}
	return n
}

// named are options whose labels are the texts of a key.
func (f *formFields) named(values ...string) []option {
	out := make([]option, len(values))
	for i, v := range values {
		out[i] = option{v, f.words.or(f.form+".option."+v, v)}
	}
	return out
}

// pager is the way through a list that has more than a page.
type pager struct{ First, Next string }

// pagerOf keeps the filters of a list in the addresses of its pages.
func (p *page) pagerOf(token string) pager {
	var out pager
	q := p.r.URL.Query()
	if q.Get("page") != "" {
		q.Del("page")
		out.First = p.r.URL.Path + "?" + q.Encode()
	}
	if token != "" {
		q.Set("page", token)
		out.Next = p.r.URL.Path + "?" + q.Encode()
	}
	return out
}
