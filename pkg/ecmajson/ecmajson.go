// Package ecmajson knows the form in which ECMAScript writes JSON: what JSON.stringify gives for
// the value that JSON.parse read (ECMA-262, sections 25.5.1 and 25.5.2). Receivers that hash what
// they parsed and wrote again, rather than the bytes that they got, accept only that form. The
// package is pure and holds nothing.
package ecmajson

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// ErrInvalid means that the text is no JSON.
var ErrInvalid = errors.New("not JSON")

// maxDepth is how deep values may lie in each other.
const maxDepth = 1000

// Difference is the first place where a text is not as ECMAScript writes it.
type Difference struct {
	// Offset is the byte at which it begins.
	Offset int
	// Reason says what is otherwise.
	Reason string
}

// Error says where and why.
func (d *Difference) Error() string { return fmt.Sprintf("byte %d: %s", d.Offset, d.Reason) }

// The reasons of a Difference.
const (
	reasonSpace     = "whitespace between tokens is left out"
	reasonNumber    = "the number is written in another way"
	reasonTooLarge  = "the number is beyond the range of a double, and is written as null"
	reasonEscape    = "the character is written in another way"
	reasonUTF8      = "bytes that are not UTF-8 are replaced"
	reasonDuplicate = "a name that stands twice is written once"
	reasonOrder     = "names that are array indexes are written first, in ascending order"
)

// Stable says whether JSON.stringify(JSON.parse(data)) gives data back byte for byte. The error
// is a *Difference that says where it does not first, or wraps ErrInvalid.
func Stable(data []byte) error {
	c := checker{text{data: data}, nil}
	if err := c.value(0); err != nil {
		// What is no JSON is told as that, wherever a difference stands before it.
		if d := (*Difference)(nil); errors.As(err, &d) {
			if _, invalid := Append(nil, data); invalid != nil {
				return invalid
			}
		}
		return err
	}
	if c.at == len(data) {
		return nil
	}
	at := c.at
	if c.space(); c.at < len(data) {
		return c.invalid("something follows the value")
	}
	return &Difference{at, reasonSpace}
}

// Append appends JSON.stringify(JSON.parse(data)), as UTF-8: compact; with no escapes but those
// that must be; numbers as ECMAScript writes doubles; of names that stand twice the last value at
// the first one's place; names that are array indexes first, in ascending order. Bytes that are
// not UTF-8 become U+FFFD. The error wraps ErrInvalid.
func Append(dst, data []byte) ([]byte, error) {
	w := writer{text{data: data}}
	start := len(dst)
	w.space()
	dst, err := w.value(dst, 0)
	if err != nil {
		return dst[:start], err
	}
	if w.space(); w.at < len(data) {
		return dst[:start], w.invalid("something follows the value")
	}
	return dst, nil
}

// text is a place in a JSON text.
type text struct {
	data []byte
	at   int
}

func (t *text) invalid(what string) error {
	return fmt.Errorf("%w: byte %d: %s", ErrInvalid, t.at, what)
}

// peek is the byte that comes next, 0 at the end.
func (t *text) peek() byte {
	if t.at < len(t.data) {
		return t.data[t.at]
	}
	return 0
}

func (t *text) take(b byte) bool {
	if t.at < len(t.data) && t.data[t.at] == b {
		t.at++
		return true
	}
	return false
}

func (t *text) space() {
	for t.at < len(t.data) {
		switch t.data[t.at] {
		case ' ', '\t', '\r', '\n':
			t.at++
		default:
			return
		}
	}
}

// literal takes true, false or null.
func (t *text) literal() (string, error) {
	for _, l := range [...]string{"true", "false", "null"} {
		if end := t.at + len(l); end <= len(t.data) && string(t.data[t.at:end]) == l {
			t.at = end
			return l, nil
		}
	}
	return "", t.invalid("a value is wanted")
}

// number takes a number as JSON has it. Simple says that it is an integer of so few digits that
// every double writes it the same way.
func (t *text) number() (number []byte, simple bool, err error) {
	start := t.at
	negative := t.take('-')
	first := t.at
	n := t.digits()
	if n == 0 || n > 1 && t.data[first] == '0' {
		return nil, false, t.invalid("a number must begin with one zero, or with another digit")
	}
	simple = n <= 15 && (!negative || t.data[first] != '0')
	if t.take('.') {
		simple = false
		if t.digits() == 0 {
			return nil, false, t.invalid("a digit is wanted")
		}
	}
	if b := t.peek(); b == 'e' || b == 'E' {
		simple = false
		t.at++
		if !t.take('+') {
			t.take('-')
		}
		if t.digits() == 0 {
			return nil, false, t.invalid("a digit is wanted")
		}
	}
	return t.data[start:t.at], simple, nil
}

func (t *text) digits() int {
	start := t.at
	for t.at < len(t.data) && t.data[t.at] >= '0' && t.data[t.at] <= '9' {
		t.at++
	}
	return t.at - start
}

// char takes one character of a string: plain, or an escape. A surrogate that an escape gives
// stays as it is; pairs are put together by the caller.
func (t *text) char() (r rune, escaped bool, err error) {
	b := t.data[t.at]
	switch {
	case b < ' ':
		return 0, false, t.invalid("control characters must be escaped")
	case b == '\\':
		r, err = t.escape()
		return r, true, err
	case b < utf8.RuneSelf:
		t.at++
		return rune(b), false, nil
	}
	r, size := utf8.DecodeRune(t.data[t.at:])
	t.at += size
	return r, false, nil
}

func (t *text) escape() (rune, error) {
	if t.at+1 >= len(t.data) {
		return 0, t.invalid("the string does not end")
	}
	b := t.data[t.at+1]
	if b == 'u' {
		return t.hex()
	}
	const names, values = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	for i := range len(names) {
		if names[i] == b {
			t.at += 2
			return rune(values[i]), nil
		}
	}
	return 0, t.invalid("there is no such escape")
}

// hex takes an escape of four hexadecimal digits.
func (t *text) hex() (rune, error) {
	const length = len(`\u0000`)
	if t.at+length > len(t.data) {
		return 0, t.invalid("the string does not end")
	}
	var r rune
	for _, b := range t.data[t.at+2 : t.at+length] {
		switch {
		case b >= '0' && b <= '9':
			b -= '0'
		case b >= 'a' && b <= 'f':
			b -= 'a' - 10
		case b >= 'A' && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, t.invalid("an escape must have four hexadecimal digits")
		}
		r = r<<4 | rune(b)
	}
	t.at += length
	return r, nil
}

// appendNumber appends the double that a JSON number stands for, as ECMAScript writes it.
func appendNumber(dst, number []byte) []byte {
	f, err := strconv.ParseFloat(string(number), 64)
	if err != nil || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == 0 {
		return append(dst, '0') // also for -0
	}
	const smallest, largest = 1e-6, 1e21
	if abs := math.Abs(f); abs >= smallest && abs < largest {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go writes two digits of an exponent at least, ECMAScript one.
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// arrayIndex says whether a name is an array index: the decimal form of 0 to 2^32-2.
func arrayIndex(name []byte) (uint32, bool) {
	const digits = len("4294967294")
	if len(name) == 0 || len(name) > digits || name[0] == '0' && len(name) > 1 {
		return 0, false
	}
	var n uint64
	for _, b := range name {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + uint64(b-'0')
	}
	if n >= math.MaxUint32 {
		return 0, false
	}
	return uint32(n), true
}
