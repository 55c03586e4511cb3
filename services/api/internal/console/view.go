package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// functions are what templates can call.
func (p *pages) functions() template.FuncMap {
	return template.FuncMap{
		"t":        p.words.get,
		"tor":      p.words.or,
		"time":     timeTag,
		"duration": shownDuration,
		"state":    stateName,
		"wstate":   webhookStateName,
		"rstate":   replayStateName,
		"status":   statusClass,
		"text":     shownText,
		"delays":   shownSchedule,
		"short":    shortID,
		"count":    shownCount,
		"percent":  shownPercent,
		"join":     strings.Join,
		"icon":     icon,
		"has":      func(list []string, v string) bool { return indexOf(list, v) >= 0 },
		"dict":     dict,
		"these":    func(v ...string) []string { return v },
		"path":     url.PathEscape,
		"qesc":     url.QueryEscape,
		"minus":    func(a, b int) int { return a - b },
	}
}

// dict makes a map of pairs, for templates that are given more than one thing.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("dict: %d values make no pairs", len(pairs))
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no key", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

// timeTag is a moment for readers: exact without a script, in the reader's zone with one.
func timeTag(ts any) template.HTML {
	var at time.Time
	switch v := ts.(type) {
	case *timestamppb.Timestamp:
		if v == nil {
			return `<span class="none">–</span>`
		}
		at = v.AsTime()
	case time.Time:
		at = v
	}
	if at.IsZero() {
		return `<span class="none">–</span>`
	}
	at = at.UTC()
	// Both are made of digits and signs of our own.
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s UTC</time>`, //nolint:gosec // see above
		at.Format("2006-01-02T15:04:05.000Z"), at.Format("2006-01-02 15:04:05")))
}

// shownDuration is a length of time in the unit that suits it.
func shownDuration(v any) string {
	var d time.Duration
	switch v := v.(type) {
	case *durationpb.Duration:
		if v == nil {
			return "–"
		}
		d = v.AsDuration()
	case time.Duration:
		d = v
	}
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.2g s", d.Seconds())
	case d < time.Hour:
		return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(strings.TrimSuffix(d.Round(time.Minute).String(), "0s"), "0m")
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

func stateName(s postriderv1.DeliveryState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "DELIVERY_STATE_"))
}

func webhookStateName(s postriderv1.WebhookState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "WEBHOOK_STATE_"))
}

func replayStateName(s postriderv1.ReplayState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "REPLAY_STATE_"))
}

// statusClass says how an HTTP status looks.
func statusClass(code int32) string {
	switch {
	case code >= 200 && code < 300:
		return "good"
	case code == 0:
		return "none"
	case code < 500:
		return "warn"
	}
	return "bad"
}

const maxShown = 64 << 10

// shownText is a payload or a body for a reader: JSON is laid out, what is no text is counted.
func shownText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	cut := b
	if len(cut) > maxShown {
		cut = cut[:maxShown]
	}
	if json.Valid(b) && len(b) <= maxShown {
		var out bytes.Buffer
		if json.Indent(&out, b, "", "  ") == nil {
			return out.String()
		}
	}
	if !utf8.Valid(b) {
		return fmt.Sprintf("%d bytes that are no text", len(b))
	}
	return strings.ToValidUTF8(string(cut), "")
}

// shortID is an id's beginning and end, for narrow places; the whole stands in its title.
func shortID(id string) string {
	const head, tail = 8, 6
	if len(id) <= head+tail+1 {
		return id
	}
	return id[:head] + "…" + id[len(id)-tail:]
}

// shownCount is a number with narrow spaces between its thousands.
func shownCount(v any) string {
	s := fmt.Sprint(v)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "−", s[1:]
	}
	var out []byte
	for i, c := range []byte(s) {
		if i > 0 && (len(s)-i)%3 == 0 {
			out = append(out, "\u202f"...)
		}
		out = append(out, c)
	}
	return sign + string(out)
}

func shownPercent(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	share := float64(part) / float64(whole) * 100
	if share > 99.9 && part < whole {
		return "99.9 %" // not all
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", share), ".0") + " %"
}

func indexOf(list []string, v string) int {
	for i, each := range list {
		if each == v {
			return i
		}
	}
	return -1
}
