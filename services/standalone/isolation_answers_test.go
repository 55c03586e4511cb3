//go:build !race

package standalone_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// reply is what somebody was answered.
type reply struct {
	failed bool
	head   string // of an HTTP answer: its status, and where it sends to
	text   string // all of it
}

// judge compares answers about another's things with those about nothing.
type judge struct {
	theirs, nothing things
	secrets         []string
	marks           map[string]string // what stands for an id of either, by id
	ids             *regexp.Regexp    // any of them, as a word
}

func newJudge(theirs, nothing things, secrets []string) *judge {
	j := &judge{theirs: theirs, nothing: nothing, secrets: slices.Clone(secrets), marks: map[string]string{}}
	for _, s := range secrets {
		j.secrets = append(j.secrets, strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "="))
	}
	j.secrets = append(j.secrets, strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(theirData)), "="))
	var all []string
	for _, set := range []things{theirs, nothing} {
		for k, ids := range set {
			for _, id := range ids {
				j.marks[id] = mark(k)
				all = append(all, word(id))
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	j.ids = regexp.MustCompile(strings.Join(all, "|"))
	return j
}

// word is a pattern of an id that is no part of a longer one. An id may begin or end with a hyphen, at
// which a pattern knows no boundary.
func word(id string) string {
	pattern := regexp.QuoteMeta(id)
	if !strings.HasPrefix(id, "-") {
		pattern = `\b` + pattern
	}
	if !strings.HasSuffix(id, "-") {
		pattern += `\b`
	}
	return pattern
}

// mark stands for ids of a kind. Numbers are small, so that one may be another kind's too.
func mark(k kind) string {
	if k == aSequence || strings.HasPrefix(string(k), string(aNumber)) {
		return "<n>"
	}
	return "<" + string(k) + ">"
}

var (
	momentForm   = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?`)
	durationForm = regexp.MustCompile(`"\d+(\.\d+)?s"`)
	// sharedForm is what every account's doings move: revisions, how far the log is, what a limit leaves.
	sharedForm = regexp.MustCompile(`,?"(revision|recorded_sequence|journal_sequence|unrecorded|lag|remaining|reset)":"?[\d.]+s?"?`)
)

// plain is an answer without ids and times.
func (j *judge) plain(text string) string {
	text = strings.ReplaceAll(sharedForm.ReplaceAllString(text, ""), "{,", "{")
	text = j.ids.ReplaceAllStringFunc(text, func(id string) string { return j.marks[id] })
	return durationForm.ReplaceAllString(momentForm.ReplaceAllString(text, "<moment>"), `"<duration>"`)
}

// shape is what an answer about a change says but for what every change makes anew: which fields
// there are, flags and enumerations.
func (j *judge) shape(r reply) string {
	var v any
	if json.Unmarshal([]byte(r.text), &v) != nil {
		return "" // a page, which says anew what was changed
	}
	out, _ := json.Marshal(shapeOf(v)) // of what was read as JSON
	return string(out)
}

var enumForm = regexp.MustCompile(`^[A-Z][A-Z_]{3,}$`)

func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			v[name] = shapeOf(member)
		}
		return v
	case []any:
		for i := range v {
			v[i] = shapeOf(v[i])
		}
		return v
	case string:
		if enumForm.MatchString(v) {
			return v
		}
		return "text"
	case float64:
		return "number"
	}
	return v
}

// difference says how the answer about another's things tells that they are there; empty: it does not.
func (j *judge) difference(about, aboutNothing reply, change bool) string {
	a, b := j.plain(about.text), j.plain(aboutNothing.text)
	headA, headB := j.plain(about.head), j.plain(aboutNothing.head)
	if change && !about.failed && !aboutNothing.failed {
		a, b = j.shape(about), j.shape(aboutNothing)
	}
	if change {
		a, b = freshForm.ReplaceAllString(a, "<new>"), freshForm.ReplaceAllString(b, "<new>")
		headA, headB = freshForm.ReplaceAllString(headA, "<new>"), freshForm.ReplaceAllString(headB, "<new>")
	}
	if headA+a == headB+b && about.failed == aboutNothing.failed {
		return ""
	}
	return "about theirs: " + headA + a + "\nabout none:   " + headB + b
}

// freshForm is the id of what a change has made.
var freshForm = regexp.MustCompile(`\b(evt|wh|rpl|key)_[0-9A-Z]{26}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|/\d+ $`)

// leaks are what an answer shows of another's things that its request did not name.
func (j *judge) leaks(r reply, asked string) []string {
	var found []string
	for _, s := range j.secrets {
		if strings.Contains(r.head+r.text, s) && !strings.Contains(asked, s) {
			found = append(found, s)
		}
	}
	for k, ids := range j.theirs {
		for _, id := range ids {
			// Small numbers are everybody's.
			if k != aSequence && !strings.HasPrefix(string(k), string(aNumber)) && strings.Contains(r.head+r.text, id) && !strings.Contains(asked, id) {
				found = append(found, id)
			}
		}
	}
	return found
}

// compact is JSON without the spaces that differ from one encoding to the next.
func compact(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}
