package stream

import "fmt"

// CheckTokens reports whether each string can be one token of a subject: not empty, no dot, no
// wildcard, nothing but printable ASCII. Ids have that form; this is for what else may come.
func CheckTokens(tokens ...string) error {
	for _, t := range tokens {
		if t == "" {
			return fmt.Errorf("%w: a subject token is empty", ErrRefused)
		}
		for i := range len(t) {
			if c := t[i]; c <= ' ' || c > '~' || c == '.' || c == '*' || c == '>' {
				return fmt.Errorf("%w: %q is not a subject token", ErrRefused, t)
			}
		}
	}
	return nil
}
