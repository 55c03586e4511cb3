package eventschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
)

// Bounds of numbers. Numbers are compared exactly, so a short text such as 1e999999 would cost what
// a million digits cost.
const (
	maxNumberBytes = 1024
	maxExponent    = 1024
)

// decoder reads JSON into values as the library takes them, with numbers as they are written.
type decoder struct {
	*json.Decoder
	most    int // levels
	deepest int
}

// decode reads one JSON text and says how deep it is nested. Its error is an *InvalidError whose pointer is
// into the text.
func decode(text []byte, most int) (v any, depth int, err error) {
	d := decoder{Decoder: json.NewDecoder(bytes.NewReader(text)), most: most}
	d.UseNumber()
	v, err = d.value(nil)
	if err != nil {
		return nil, 0, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, 0, invalid("", "must be one JSON value")
	}
	return v, d.deepest, nil
}

func (d *decoder) token(at []string) (json.Token, error) {
	t, err := d.Token()
	if err != nil {
		return nil, invalid(join(at), "must be well-formed JSON")
	}
	return t, nil
}

// value reads the next value. The path's backing array is reused.
func (d *decoder) value(at []string) (any, error) {
	t, err := d.token(at)
	if err != nil {
		return nil, err
	}
	d.deepest = max(d.deepest, len(at))
	switch t := t.(type) {
	case json.Delim:
		if len(at) >= d.most {
			return nil, invalid(join(at), fmt.Sprintf("must not be nested deeper than %d levels", d.most))
		}
		if t == '[' {
			return d.array(at)
		}
		return d.object(at)
	case json.Number:
		return t, checkNumber(at, string(t))
	}
	return t, nil
}

func (d *decoder) array(at []string) (any, error) {
	list := []any{}
	for d.More() {
		v, err := d.value(append(at, strconv.Itoa(len(list))))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.token(at)
	return list, err
}

func (d *decoder) object(at []string) (any, error) {
	members := map[string]any{}
	for d.More() {
		t, err := d.token(at)
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, invalid(join(at), "must be well-formed JSON")
		}
		at = append(at, name)
		if _, twice := members[name]; twice {
			return nil, invalid(join(at), "stands twice in its object")
		}
		if members[name], err = d.value(at); err != nil {
			return nil, err
		}
		at = at[:len(at)-1]
	}
	_, err := d.token(at)
	return members, err
}

func checkNumber(at []string, text string) error {
	if len(text) > maxNumberBytes {
		return invalid(join(at), fmt.Sprintf("a number must have at most %d characters", maxNumberBytes))
	}
	i := strings.IndexAny(text, "eE")
	if i < 0 {
		return nil
	}
	if e, err := strconv.Atoi(strings.TrimPrefix(text[i+1:], "+")); err != nil || e > maxExponent || e < -maxExponent {
		return invalid(join(at), fmt.Sprintf("a number's exponent must be from %d to %d", -maxExponent, maxExponent))
	}
	return nil
}

// join makes a JSON pointer of its tokens.
func join(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(escape(t))
	}
	return b.String()
}

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

func escape(token string) string { return escaper.Replace(token) }

var unescaper = strings.NewReplacer("~1", "/", "~0", "~")

// Tokens splits a JSON pointer into its tokens.
func Tokens(pointer string) []string {
	if pointer == "" {
		return nil
	}
	tokens := strings.Split(pointer[1:], "/")
	for i, t := range tokens {
		tokens[i] = unescaper.Replace(t)
	}
	return tokens
}

// unescapeFragment turns the fragment of a schema's location into a JSON pointer.
func unescapeFragment(fragment string) string {
	if p, err := url.PathUnescape(fragment); err == nil {
		return p
	}
	return fragment
}
