package ecmajson

import (
	"bytes"
	"unicode/utf8"
)

// checker goes through a text until it finds something that ECMAScript would write otherwise.
type checker struct {
	text
	// names are those of the objects around the place, one object's after the other's. As far as
	// they are in the form, equal names are equal bytes.
	names [][]byte
}

func (c *checker) differs(at int, reason string) error { return &Difference{at, reason} }

func (c *checker) value(depth int) error {
	if depth > maxDepth {
		return c.invalid("values lie too deep in each other")
	}
	switch b := c.peek(); {
	case b == '{':
		return c.object(depth)
	case b == '[':
		return c.array(depth)
	case b == '"':
		_, err := c.str()
		return err
	case b == '-' || b >= '0' && b <= '9':
		return c.num()
	case b == ' ' || b == '\t' || b == '\r' || b == '\n':
		return c.differs(c.at, reasonSpace)
	}
	_, err := c.literal()
	return err
}

// want takes a byte that must come now.
func (c *checker) want(b byte) error {
	if c.take(b) {
		return nil
	}
	at := c.at
	if c.space(); c.at > at {
		return c.differs(at, reasonSpace)
	}
	return c.invalid("'" + string(rune(b)) + "' is wanted")
}

// more takes a comma or the end.
func (c *checker) more(end byte) (bool, error) {
	if c.take(',') {
		return true, nil
	}
	return false, c.want(end)
}

func (c *checker) array(depth int) error {
	c.at++
	if c.take(']') {
		return nil
	}
	for {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if more, err := c.more(']'); err != nil || !more {
			return err
		}
	}
}

func (c *checker) object(depth int) error {
	c.at++
	if c.take('}') {
		return nil
	}
	o := members{c: c, first: len(c.names), last: -1}
	defer func() { c.names = c.names[:o.first] }()
	for {
		at := c.at
		if c.peek() != '"' {
			return c.want('"')
		}
		name, err := c.str()
		if err != nil {
			return err
		}
		if reason := o.add(name); reason != "" {
			return c.differs(at, reason)
		}
		if err := c.want(':'); err != nil {
			return err
		}
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if more, err := c.more('}'); err != nil || !more {
			return err
		}
	}
}

// members checks the names of one object.
type members struct {
	c      *checker
	first  int                 // its first name in c.names
	last   int64               // the largest array index so far
	others bool                // a name that is none was seen
	seen   map[string]struct{} // all of them, once there are many
}

// fewNames is how many names are compared one by one.
const fewNames = 16

func (m *members) add(name []byte) (reason string) {
	if index, ok := arrayIndex(name); ok {
		switch {
		case int64(index) == m.last:
			return reasonDuplicate
		case m.others || int64(index) < m.last:
			return reasonOrder
		}
		m.last = int64(index)
		return ""
	}
	m.others = true
	if m.repeated(name) {
		return reasonDuplicate
	}
	m.c.names = append(m.c.names, name)
	return ""
}

func (m *members) repeated(name []byte) bool {
	known := m.c.names[m.first:]
	if len(known) < fewNames {
		for _, k := range known {
			if bytes.Equal(k, name) {
				return true
			}
		}
		return false
	}
	if m.seen == nil {
		m.seen = make(map[string]struct{}, 4*fewNames)
		for _, k := range known {
			m.seen[string(k)] = struct{}{}
		}
	}
	if _, ok := m.seen[string(name)]; ok {
		return true
	}
	m.seen[string(name)] = struct{}{}
	return false
}

func (c *checker) num() error {
	at := c.at
	number, simple, err := c.number()
	if err != nil || simple {
		return err
	}
	var buf [64]byte
	written := appendNumber(buf[:0], number)
	switch {
	case bytes.Equal(written, number):
		return nil
	case written[0] == 'n':
		return c.differs(at, reasonTooLarge)
	}
	return c.differs(at, reasonNumber)
}

// str takes a string, and gives what stands between its quotes.
func (c *checker) str() ([]byte, error) {
	c.at++
	start := c.at
	high := false // the character before is a lone high surrogate so far
	for c.at < len(c.data) {
		if b := c.data[c.at]; b >= ' ' && b < utf8.RuneSelf && b != '"' && b != '\\' { // most of them
			c.at++
			high = false
			continue
		}
		at := c.at
		if c.take('"') {
			return c.data[start:at], nil
		}
		r, escaped, err := c.char()
		if err != nil {
			return nil, err
		}
		if !escaped {
			if r == utf8.RuneError && c.at-at == 1 {
				return nil, c.differs(at, reasonUTF8)
			}
			high = false
			continue
		}
		low := r >= 0xdc00 && r <= 0xdfff
		var buf [8]byte
		if high && low || !bytes.Equal(appendChar(buf[:0], r), c.data[at:c.at]) {
			return nil, c.differs(at, reasonEscape)
		}
		high = r >= 0xd800 && r <= 0xdbff
	}
	return nil, c.invalid("the string does not end")
}
