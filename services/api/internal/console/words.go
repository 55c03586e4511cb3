package console

import (
	_ "embed"
	"fmt"
	"strings"
)

// english is every text of the pages, one a line: a key, " = ", the text.
//
//go:embed words/english.txt
var english string

// words are the texts by key.
type words map[string]string

func readWords(text string) (words, error) {
	all := make(words)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, " = ")
		if !ok {
			return nil, fmt.Errorf("not a key and a text: %q", line)
		}
		if _, twice := all[key]; twice {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		all[key] = value
	}
	return all, nil
}

// get is the text of a key, with values put in place of its verbs. A key without a text shows itself;
// a test keeps that from happening.
func (w words) get(key string, args ...any) string {
	text, ok := w[key]
	if !ok {
		return key
	}
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// or is the text of a key, or another one if there is none.
func (w words) or(key, other string) string {
	if text, ok := w[key]; ok {
		return text
	}
	return other
}
