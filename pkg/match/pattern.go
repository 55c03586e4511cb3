package match

import (
	"errors"
	"fmt"
	"strings"
)

// MaxEventTypeBytes is the longest event type.
const MaxEventTypeBytes = 128

// reservedPrefix begins the types of the events that Postrider publishes itself.
const reservedPrefix = "postrider."

// Reserved reports whether only Postrider itself publishes events of the type. They reach webhooks
// that name them, or "postrider.*", and never those that want "*": a receiver of an account's
// events must not be surprised by events about its own webhook.
func Reserved(eventType string) bool { return strings.HasPrefix(eventType, reservedPrefix) }

// The rules that event types and patterns break.
var (
	errEmpty   = errors.New("must not be empty")
	errTooLong = fmt.Errorf("must be at most %d bytes", MaxEventTypeBytes)
	errWord    = errors.New("must be dot-separated words of letters, digits, '_' and '-'")
	errStar    = errors.New(`'*' must stand alone or as the last word, as in "release.*"`)
)

// Pattern says which event types a webhook wants. The zero Pattern matches nothing. Patterns are
// comparable.
type Pattern struct {
	kind patternKind
	// text is the event type of an exact pattern, and the prefix with its dot of the others.
	text string
}

type patternKind uint8

const (
	patternNone patternKind = iota
	patternExact
	patternBelow // everything below a word, at any depth
	patternAll   // everything that is not reserved
)

// ParsePattern reads an exact event type, "release.*" (everything below a word, at any depth, but
// not the word itself) or "*" (everything that is not Reserved).
func ParsePattern(s string) (Pattern, error) {
	if s == "*" {
		return Pattern{kind: patternAll}, nil
	}
	if prefix, ok := strings.CutSuffix(s, ".*"); ok {
		if err := checkPatternWords(prefix); err != nil {
			return Pattern{}, err
		}
		return Pattern{kind: patternBelow, text: s[:len(s)-1]}, nil
	}
	if err := checkPatternWords(s); err != nil {
		return Pattern{}, err
	}
	return Pattern{kind: patternExact, text: s}, nil
}

// checkPatternWords is CheckEventType with a better word for a misplaced star.
func checkPatternWords(s string) error {
	if strings.Contains(s, "*") {
		return errStar
	}
	return CheckEventType(s)
}

// Match reports whether an event of the type is wanted.
func (p Pattern) Match(eventType string) bool {
	switch p.kind {
	case patternExact:
		return p.text == eventType
	case patternBelow:
		return strings.HasPrefix(eventType, p.text)
	case patternAll:
		return !Reserved(eventType)
	case patternNone:
	}
	return false
}

// Reserved reports whether the pattern is one of reserved types.
func (p Pattern) Reserved() bool {
	return (p.kind == patternExact || p.kind == patternBelow) && Reserved(p.text)
}

// String is the pattern as ParsePattern reads it.
func (p Pattern) String() string {
	switch p.kind {
	case patternBelow:
		return p.text + "*"
	case patternAll:
		return "*"
	case patternExact, patternNone:
	}
	return p.text
}

// covers reports whether p matches everything that q matches.
func (p Pattern) covers(q Pattern) bool {
	switch p.kind {
	case patternAll:
		return !q.Reserved()
	case patternBelow:
		return (q.kind == patternExact || q.kind == patternBelow) && strings.HasPrefix(q.text, p.text)
	case patternExact:
		return q == p
	case patternNone:
	}
	return q.kind == patternNone
}

// CheckEventType says what is wrong with an event type: it is 1 to 128 bytes of dot-separated
// words, each of ASCII letters, digits, '_' and '-'.
func CheckEventType(s string) error {
	if s == "" {
		return errEmpty
	}
	if len(s) > MaxEventTypeBytes {
		return errTooLong
	}
	word := 0 // length of the word so far
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if word == 0 {
				return errWord
			}
			word = 0
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			word++
		default:
			return errWord
		}
	}
	if word == 0 {
		return errWord
	}
	return nil
}
