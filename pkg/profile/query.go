package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
)

// query appends parameters, in the order in which they come.
type query struct {
	dst   []byte
	first bool
}

// pair appends one, form-encoded. Brackets are encoded too, as browsers do.
func (q *query) pair(name, value string) {
	switch n := len(q.dst); {
	case q.first:
		q.dst = append(q.dst, '?')
	case n > 0 && (q.dst[n-1] == '?' || q.dst[n-1] == '&'):
	default:
		q.dst = append(q.dst, '&')
	}
	q.first = false
	q.dst = append(q.dst, url.QueryEscape(name)...)
	q.dst = append(q.dst, '=')
	q.dst = append(q.dst, url.QueryEscape(value)...)
}

// flatten appends a valid JSON value: in the style "brackets" as Rails, PHP and qs read it back
// (`a[b]=1`, `a[]=1`, `a[][b]=1`), in "dots" with places as names (`a.b=1`, `a.0=1`), in "json" as
// one parameter that holds the text. Null and the empty text are empty values, empty lists and
// objects are left out, and everything else is its JSON text.
func (q *query) flatten(name string, value []byte, style string) error {
	if style == styleJSON {
		if len(value) > MaxTargetBytes {
			return ErrURLTooLong
		}
		q.pair(name, string(value))
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	f := flattener{q, d, style == styleDots}
	return f.value(name)
}

type flattener struct {
	*query

	decoder *json.Decoder
	dots    bool
}

// value appends the value that comes next. It stops as soon as the whole is too long, so that what
// it costs is bounded, however deep the value is.
func (f *flattener) value(name string) error {
	if len(f.dst)+len(name) > MaxTargetBytes {
		return ErrURLTooLong
	}
	token, err := f.decoder.Token()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnrenderable, err)
	}
	switch v := token.(type) {
	case json.Delim:
		return f.nested(name, v == '[')
	case nil:
		f.pair(name, "")
	case string:
		f.pair(name, v)
	case bool:
		f.pair(name, strconv.FormatBool(v))
	case json.Number:
		f.pair(name, v.String())
	}
	return nil
}

func (f *flattener) nested(name string, list bool) error {
	for i := 0; f.decoder.More(); i++ {
		inner := name + f.element(i)
		if !list {
			token, err := f.decoder.Token()
			if err != nil {
				return fmt.Errorf("%w: %w", ErrUnrenderable, err)
			}
			key, _ := token.(string)
			inner = name + f.member(key)
		}
		if err := f.value(inner); err != nil {
			return err
		}
	}
	if _, err := f.decoder.Token(); err != nil { // its end
		return fmt.Errorf("%w: %w", ErrUnrenderable, err)
	}
	return nil
}

func (f *flattener) element(i int) string {
	if f.dots {
		return "." + strconv.Itoa(i)
	}
	return "[]"
}

func (f *flattener) member(key string) string {
	if f.dots {
		return "." + key
	}
	return "[" + key + "]"
}
