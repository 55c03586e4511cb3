package ecmajson

import (
	"cmp"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// writer reads a text and writes it in ECMAScript's form.
type writer struct{ text }

func (w *writer) value(dst []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return dst, w.invalid("values lie too deep in each other")
	}
	switch b := w.peek(); {
	case b == '{':
		return w.object(dst, depth)
	case b == '[':
		return w.array(dst, depth)
	case b == '"':
		return w.str(dst)
	case b == '-' || b >= '0' && b <= '9':
		number, simple, err := w.number()
		if err != nil {
			return dst, err
		}
		if simple {
			return append(dst, number...), nil
		}
		return appendNumber(dst, number), nil
	}
	l, err := w.literal()
	return append(dst, l...), err
}

// more takes a comma or the end, with the whitespace around.
func (w *writer) more(end byte) (bool, error) {
	w.space()
	if w.take(end) {
		return false, nil
	}
	if !w.take(',') {
		return false, w.invalid("',' or '" + string(rune(end)) + "' is wanted")
	}
	w.space()
	return true, nil
}

func (w *writer) array(dst []byte, depth int) ([]byte, error) {
	w.at++
	dst = append(dst, '[')
	w.space()
	if w.take(']') {
		return append(dst, ']'), nil
	}
	for {
		var err error
		if dst, err = w.value(dst, depth+1); err != nil {
			return dst, err
		}
		more, err := w.more(']')
		if err != nil {
			return dst, err
		}
		if !more {
			return append(dst, ']'), nil
		}
		dst = append(dst, ',')
	}
}

// member is a name of an object with its value.
type member struct {
	// text is the name's form between its quotes: equal names have equal forms.
	name string
	// from and to are where name and value stand in what was written.
	from, to int
}

func (w *writer) object(dst []byte, depth int) ([]byte, error) {
	w.at++
	start := len(dst)
	dst = append(dst, '{')
	w.space()
	if w.take('}') {
		return append(dst, '}'), nil
	}
	var all []member
	for {
		from := len(dst)
		if w.peek() != '"' {
			return dst, w.invalid("a name is wanted")
		}
		var err error
		if dst, err = w.str(dst); err != nil {
			return dst, err
		}
		m := member{name: string(dst[from+1 : len(dst)-1]), from: from}
		w.space()
		if !w.take(':') {
			return dst, w.invalid("':' is wanted")
		}
		w.space()
		dst = append(dst, ':')
		if dst, err = w.value(dst, depth+1); err != nil {
			return dst, err
		}
		m.to = len(dst)
		all = append(all, m)
		more, err := w.more('}')
		if err != nil {
			return dst, err
		}
		if !more {
			return arrange(append(dst, '}'), start, all), nil
		}
		dst = append(dst, ',')
	}
}

// arrange writes the object that begins at start anew if its members are not in ECMAScript's order.
func arrange(dst []byte, start int, all []member) []byte {
	ordered := once(all)
	slices.SortStableFunc(ordered, func(a, b member) int {
		x, xIndex := arrayIndex([]byte(a.name))
		y, yIndex := arrayIndex([]byte(b.name))
		switch {
		case xIndex && yIndex:
			return cmp.Compare(x, y)
		case xIndex:
			return -1
		case yIndex:
			return 1
		}
		return 0
	})
	if slices.Equal(ordered, all) {
		return dst
	}
	old := slices.Clone(dst[start:])
	dst = append(dst[:start], '{')
	for i, m := range ordered {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, old[m.from-start:m.to-start]...)
	}
	return append(dst, '}')
}

// once is the members with each name once: the last one's value at the first one's place.
func once(all []member) []member {
	out := make([]member, 0, len(all))
	places := make(map[string]int, len(all))
	for _, m := range all {
		if i, ok := places[m.name]; ok {
			out[i] = m
			continue
		}
		places[m.name] = len(out)
		out = append(out, m)
	}
	return out
}

func (w *writer) str(dst []byte) ([]byte, error) {
	w.at++
	dst = append(dst, '"')
	high := rune(0) // a high surrogate that waits for its other half
	for w.at < len(w.data) {
		if w.take('"') {
			return append(flush(dst, high), '"'), nil
		}
		r, _, err := w.char()
		if err != nil {
			return dst, err
		}
		if pair := utf16.DecodeRune(high, r); high != 0 && pair != utf8.RuneError {
			dst, high = appendChar(dst, pair), 0
			continue
		}
		dst, high = flush(dst, high), 0
		if r >= 0xd800 && r <= 0xdbff {
			high = r
			continue
		}
		dst = appendChar(dst, r)
	}
	return dst, w.invalid("the string does not end")
}

// flush writes a high surrogate that stayed alone.
func flush(dst []byte, high rune) []byte {
	if high == 0 {
		return dst
	}
	return appendChar(dst, high)
}

// appendChar appends a character of a string as ECMA-262's QuoteJSONString does.
func appendChar(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	if r < ' ' || r >= 0xd800 && r <= 0xdfff {
		return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	return utf8.AppendRune(dst, r)
}
