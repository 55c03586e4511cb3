package retry

import (
	"net/http"
	"strings"
	"time"
)

// ParseRetryAfter reads a Retry-After header (RFC 9110 section 10.2.3): seconds, of which a
// fraction is rounded up, or an HTTP-date. The result is capped at MaxRetryAfter after now. Ok is
// false for a value that is neither, and for one that is not in the future.
func ParseRetryAfter(value string, now time.Time) (at time.Time, ok bool) {
	value = strings.Trim(value, " \t")
	if value == "" {
		return time.Time{}, false
	}
	limit := now.Add(MaxRetryAfter)
	if c := value[0]; c >= '0' && c <= '9' {
		wait, ok := parseSeconds(value)
		if !ok || wait == 0 {
			return time.Time{}, false
		}
		return now.Add(wait), true
	}
	at, err := http.ParseTime(value)
	if err != nil || !at.After(now) {
		return time.Time{}, false
	}
	if at.After(limit) {
		at = limit
	}
	return at, true
}

// parseSeconds reads digits with an optional fraction, rounded up, at most MaxRetryAfter.
func parseSeconds(s string) (time.Duration, bool) {
	whole, fraction, dotted := strings.Cut(s, ".")
	if !digits(whole) || dotted && !digits(fraction) {
		return 0, false
	}
	const most = int64(MaxRetryAfter / time.Second)
	var n int64
	for i := range len(whole) {
		n = min(n*10+int64(whole[i]-'0'), most)
	}
	if strings.Trim(fraction, "0") != "" {
		n = min(n+1, most)
	}
	return time.Duration(n) * time.Second, true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
