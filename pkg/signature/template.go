package signature

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// token is a place in a template that a message fills.
type token int

const (
	tokenText token = iota // of the template itself
	tokenID
	tokenTime
	tokenMillis
	tokenBody
	tokenURL
	tokenMethod
	tokenPath
	tokenQuery
	tokenForm
	tokenSignature
	tokenType
	tokenDelivery
)

// The tokens by where they may stand: in what is signed, in the signature's header, and in the
// headers that a system has besides.
var (
	contentTokens = map[string]token{
		"id": tokenID, "ts": tokenTime, "ts_ms": tokenMillis, "body": tokenBody, "url": tokenURL,
		"method": tokenMethod, "path": tokenPath, "query": tokenQuery, "form_sorted": tokenForm,
	}
	valueTokens = map[string]token{"id": tokenID, "ts": tokenTime, "ts_ms": tokenMillis, "sig": tokenSignature}
	extraTokens = map[string]token{"id": tokenID, "type": tokenType, "delivery": tokenDelivery}
)

// part is a token, or a text of the template itself.
type part struct {
	token token
	text  string
}

// template is a text with tokens, read once.
type template []part

// parseTemplate reads a text whose tokens stand in braces.
func parseTemplate(text string, tokens map[string]token) (template, error) {
	var t template
	for text != "" {
		plain, rest, braced := strings.Cut(text, "{")
		if strings.Contains(plain, "}") {
			return nil, errors.New("must hold no } without its {")
		}
		if plain != "" {
			t = append(t, part{tokenText, plain})
		}
		if !braced {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, errors.New("must close every { with a }")
		}
		tok, known := tokens[name]
		if !known {
			return nil, fmt.Errorf("must hold no other tokens than %s, not {%s}", list(tokens), clip(name))
		}
		t = append(t, part{tok, ""})
		text = after
	}
	return t, nil
}

// clip bounds what an error repeats.
func clip(s string) string {
	const most = 32
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

func list(tokens map[string]token) string {
	names := make([]string, 0, len(tokens))
	for name := range tokens {
		names = append(names, "{"+name+"}")
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// count is how often the token stands in the template.
func (t template) count(tok token) int {
	n := 0
	for _, p := range t {
		if p.token == tok {
			n++
		}
	}
	return n
}

func (t template) holds(tok token) bool { return t.count(tok) > 0 }

// append writes the template for a message. A form that cannot be read has no sorted form; Target
// refuses it before.
func (t template) append(b []byte, m *SchemeMessage, sig []byte) []byte {
	for _, p := range t {
		b = p.append(b, m, sig)
	}
	return b
}

func (p part) append(b []byte, m *SchemeMessage, sig []byte) []byte {
	switch p.token {
	case tokenText:
		return append(b, p.text...)
	case tokenID:
		return append(b, m.ID...)
	case tokenTime:
		return strconv.AppendInt(b, m.Time.Unix(), 10)
	case tokenMillis:
		return strconv.AppendInt(b, m.Time.UnixMilli(), 10)
	case tokenBody:
		return append(b, m.Body...)
	case tokenURL:
		return append(b, m.URL...)
	case tokenMethod:
		return append(b, m.Method...)
	case tokenPath:
		path, _ := splitURL(m.URL)
		return append(b, path...)
	case tokenQuery:
		_, query := splitURL(m.URL)
		return append(b, query...)
	case tokenForm:
		return appendForm(b, m)
	case tokenSignature:
		return append(b, sig...)
	case tokenType:
		return append(b, m.Type...)
	case tokenDelivery:
		return append(b, m.Delivery...)
	}
	return b
}

// splitURL is the path and the query of an absolute URL, as they are sent.
func splitURL(u string) (path, query string) {
	if _, rest, ok := strings.Cut(u, "://"); ok {
		u = rest
	}
	u, _, _ = strings.Cut(u, "#")
	u, query, _ = strings.Cut(u, "?")
	if i := strings.IndexByte(u, '/'); i >= 0 {
		return u[i:], query
	}
	return "/", query
}

// isForm says whether the body is a form. JSON, the usual case, is told without parsing.
func isForm(contentType string) bool {
	const form = "application/x-www-form-urlencoded"
	if contentType == "application/json" {
		return false
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == form
}

// parseForm reads a form as receivers do; a pair that cannot be decoded is an error.
func parseForm(body []byte) (url.Values, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errors.New("the body cannot be read as a form")
	}
	return values, nil
}

// appendForm appends the form's names and values, sorted by name, each value of a name once and
// sorted, without anything between them. A body that is no form gives nothing.
func appendForm(b []byte, m *SchemeMessage) []byte {
	if !isForm(m.ContentType) {
		return b
	}
	values, err := parseForm(m.Body)
	if err != nil {
		return b
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		all := slices.Compact(slices.Sorted(slices.Values(values[name])))
		for _, v := range all {
			b = append(append(b, name...), v...)
		}
	}
	return b
}

// captured is what a header's value holds beside its signature.
type captured struct {
	id, seconds, millis, signature string
}

// match reads a text that append wrote; sigLength is the length of the encoded signature.
func (t template) match(s string, sigLength int) (c captured, ok bool) {
	for i, p := range t {
		n := 0
		switch p.token {
		case tokenText:
			if !strings.HasPrefix(s, p.text) {
				return captured{}, false
			}
			n = len(p.text)
		case tokenTime:
			n = digits(s)
			c.seconds = s[:n]
		case tokenMillis:
			n = digits(s)
			c.millis = s[:n]
		case tokenID:
			n = len(s)
			if i+1 < len(t) { // a text, by the rules of ParseScheme
				n = strings.Index(s, t[i+1].text)
			}
			if n < 0 {
				return captured{}, false
			}
			c.id = s[:n]
		case tokenSignature:
			n = min(sigLength, len(s))
			c.signature = s[:n]
		case tokenBody, tokenURL, tokenMethod, tokenPath, tokenQuery, tokenForm, tokenType, tokenDelivery:
			// No value holds these.
		}
		if n == 0 {
			return captured{}, false
		}
		s = s[n:]
	}
	return c, s == ""
}

// digits is the length of the number at the beginning of s.
func digits(s string) int {
	n := 0
	if strings.HasPrefix(s, "-") {
		n = 1
	}
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// writeTo feeds the template for a message into a hash. The body is not copied.
func (t template) writeTo(w interface{ Write(b []byte) (int, error) }, m *SchemeMessage, buf *buffer) {
	b := buf.prefix[:0]
	for _, p := range t {
		if p.token != tokenBody {
			b = p.append(b, m, nil)
			continue
		}
		_, _ = w.Write(b) // a hash never refuses
		_, _ = w.Write(m.Body)
		b = b[:0]
	}
	_, _ = w.Write(b)
	buf.prefix = b
}
