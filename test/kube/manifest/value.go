package manifest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Share is a number of pods, or a part of them in percent.
type Share struct {
	number  int
	percent bool
}

// UnmarshalJSON reads 1 or "25%".
func (s *Share) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &s.number) == nil {
		return nil
	}
	var word string
	if err := json.Unmarshal(text, &word); err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(word, "%"))
	if err != nil || !strings.HasSuffix(word, "%") {
		return fmt.Errorf("%q is no number of pods", word)
	}
	s.number, s.percent = n, true
	return nil
}

// Surge is the share of so many pods, rounded up as a surge is.
func (s Share) Surge(pods int) int {
	if s.percent {
		return (s.number*pods + 99) / 100
	}
	return s.number
}

// Unavailable is the share of so many pods, rounded down as what may be missing is.
func (s Share) Unavailable(pods int) int {
	if s.percent {
		return s.number * pods / 100
	}
	return s.number
}

// Quantity is a number of bytes.
type Quantity int64

// UnmarshalJSON reads "512Mi".
func (q *Quantity) UnmarshalJSON(text []byte) error {
	var word string
	if err := json.Unmarshal(text, &word); err != nil {
		return err
	}
	units := map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
	for suffix, unit := range units {
		if digits, ok := strings.CutSuffix(word, suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 64)
			if err != nil {
				return err
			}
			*q = Quantity(n * unit)
			return nil
		}
	}
	return fmt.Errorf("%q is no size in Ki, Mi or Gi", word)
}
