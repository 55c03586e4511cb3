package httpsig

import (
	"fmt"
	"strings"
)

// signatureBase is what is signed (RFC 9421, section 2.5): a line for each component, and the
// parameters last, without a line break after them.
func signatureBase(m *Message, components []component, params string) ([]byte, error) {
	var b strings.Builder
	b.Grow(512)
	for i := range components {
		value, err := components[i].value(m)
		if err != nil {
			return nil, err
		}
		if strings.ContainsAny(value, "\r\n") {
			return nil, fmt.Errorf("%w: component %s has a line break", ErrMessage, components[i].text)
		}
		b.WriteString(components[i].text)
		b.WriteString(": ")
		b.WriteString(value)
		b.WriteByte('\n')
	}
	b.WriteString(`"@signature-params": `)
	b.WriteString(params)
	return []byte(b.String()), nil
}

// listText is the inner list of the components, as it stands before the parameters.
func listText(components []component) string {
	var b strings.Builder
	b.WriteByte('(')
	for i := range components {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(components[i].text)
	}
	b.WriteByte(')')
	return b.String()
}

// quote writes a string of a structured field. It holds printable ASCII only.
func quote(b *strings.Builder, s string) error {
	b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' {
			return fmt.Errorf("%w: a parameter that is not printable ASCII", ErrMalformed)
		}
		if c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	b.WriteByte('"')
	return nil
}
