package signature

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
)

// The words of a scheme.
const (
	nameSHA256  = "hmac-sha256"
	nameSHA1    = "hmac-sha1"
	nameEd25519 = "ed25519"

	keyUTF8   = "utf8"
	keyBase64 = "base64"
	keyHex    = "hex"

	multipleNone   = "none"
	multipleSpace  = "space"
	multipleRepeat = "repeat"

	maxTemplate   = 256
	maxHeaderName = 64
)

// framing are the headers that belong to the connection, to HTTP's framing, or to what Postrider
// adds to every request.
var framing = []string{
	"Connection", "Cookie", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Signature", "Signature-Input", "Te",
	"Trailer", "Traceparent", "Tracestate", "Transfer-Encoding", "Upgrade", "User-Agent",
}

// ParseScheme reads a scheme that a webhook describes. The error is a *fault.Error of kind Invalid,
// whose violations name the fields of SignatureScheme, and whose rules are for people.
func ParseScheme(p *postriderv1.SignatureScheme) (*Scheme, error) {
	d := definition{
		algorithm:       p.GetAlgorithm(),
		keyEncoding:     p.GetKeyEncoding(),
		template:        p.GetTemplate(),
		encoding:        p.GetEncoding(),
		header:          p.GetHeader(),
		value:           p.GetValue(),
		timestampHeader: p.GetTimestampHeader(),
		idHeader:        p.GetIdHeader(),
		multiple:        p.GetMultiple(),
	}
	if d.algorithm == nameEd25519 {
		d.keyPrefix = privatePrefix
	}
	s, violations := d.compile()
	if len(violations) > 0 {
		return nil, fault.InvalidFields(violations...)
	}
	return s, nil
}

// compiler collects what is wrong with a definition.
type compiler struct {
	violations []fault.Violation
}

func (c *compiler) add(field, format string, args ...any) {
	c.violations = append(c.violations, fault.Violation{Field: field, Rule: fmt.Sprintf(format, args...)})
}

// oneOf reads a word; an empty one is the first.
func (c *compiler) oneOf(field, word string, words ...string) string {
	word = cmp.Or(word, words[0])
	if !slices.Contains(words, word) {
		c.add(field, "must be one of %q", words)
		return words[0]
	}
	return word
}

func (d definition) compile() (*Scheme, []fault.Violation) {
	c := &compiler{}
	s := &Scheme{keyPrefix: d.keyPrefix, bodyHash: d.bodyHash}
	s.algorithm = c.algorithm(d.algorithm)
	if s.algorithm == ed25519Signature {
		s.keyEncoding = c.oneOf("key_encoding", d.keyEncoding, keyBase64, keyHex)
	} else {
		s.keyEncoding = c.oneOf("key_encoding", d.keyEncoding, keyUTF8, keyBase64, keyHex)
	}
	s.base64 = c.oneOf("encoding", d.encoding, "hex", "base64") == "base64"
	s.header = c.header("header", d.header, true)
	s.timestamp = c.header("timestamp_header", d.timestampHeader, false)
	s.id = c.header("id_header", d.idHeader, false)
	c.distinct(s)
	s.content = c.content(d.template)
	s.value = c.value(d.value, d.multiple)
	if len(c.violations) == 0 {
		c.known(s)
	}
	if d.older[0] != "" {
		s.older = &older{http.CanonicalHeaderKey(d.older[0]), c.template("older", d.older[1], valueTokens)}
	}
	for _, e := range d.extra {
		s.extra = append(s.extra, extra{http.CanonicalHeaderKey(e[0]), c.template("extra", e[1], extraTokens)})
	}
	return s, c.violations
}

func (c *compiler) algorithm(name string) algorithm {
	switch name {
	case nameSHA256:
		return hmacSHA256
	case nameSHA1:
		return hmacSHA1
	case nameEd25519:
		return ed25519Signature
	}
	c.add("algorithm", "must be one of %q", []string{nameSHA256, nameSHA1, nameEd25519})
	return 0
}

func (c *compiler) header(field, name string, required bool) string {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case name == "" && !required:
	case name == "":
		c.add(field, "is required")
	case !httpguts.ValidHeaderFieldName(name), len(name) > maxHeaderName:
		c.add(field, "must be the name of an HTTP header, of at most %d characters", maxHeaderName)
	case slices.Contains(framing, canonical), strings.HasPrefix(canonical, "Content-"), strings.HasPrefix(canonical, "Proxy-"):
		c.add(field, "must not be a header that HTTP or Postrider sets")
	}
	return canonical
}

func (c *compiler) distinct(s *Scheme) {
	if s.timestamp != "" && s.timestamp == s.header {
		c.add("timestamp_header", "must not be the header of the signature")
	}
	if s.id != "" && (s.id == s.header || s.id == s.timestamp) {
		c.add("id_header", "must not be the header of the signature or of the time")
	}
}

func (c *compiler) template(field, text string, tokens map[string]token) template {
	if len(text) > maxTemplate || !utf8.ValidString(text) {
		c.add(field, "must be a text of at most %d bytes", maxTemplate)
		return nil
	}
	t, err := parseTemplate(text, tokens)
	if err != nil {
		c.add(field, "%s", err.Error())
	}
	return t
}

func (c *compiler) content(text string) template {
	before := len(c.violations)
	t := c.template("template", text, contentTokens)
	if len(c.violations) > before {
		return nil
	}
	if !t.holds(tokenBody) && !t.holds(tokenURL) && !t.holds(tokenForm) {
		c.add("template", "must hold {body}, {url} or {form_sorted}")
	}
	for _, tok := range []token{tokenBody, tokenURL, tokenForm} {
		if t.count(tok) > 1 {
			c.add("template", "must hold {body}, {url} and {form_sorted} at most once")
			break
		}
	}
	return t
}

// value reads the form of the signature's header. With "repeat" it is a list of items between
// commas, and the one that holds {sig} is repeated.
func (c *compiler) value(text, multiple string) valueForm {
	text = cmp.Or(text, "{sig}")
	multiple = c.oneOf("multiple", multiple, multipleNone, multipleSpace, multipleRepeat)
	before := len(c.violations)
	whole := c.template("value", text, valueTokens)
	if len(c.violations) > before {
		return valueForm{}
	}
	c.checkValue(whole, text)
	if multiple == multipleSpace && strings.Contains(text, " ") {
		c.add("value", `must hold no space when multiple is "space"`)
	}
	if len(c.violations) > before {
		return valueForm{}
	}
	switch multiple {
	case multipleSpace:
		return valueForm{item: whole, separator: ' '}
	case multipleRepeat:
		items := strings.Split(text, ",")
		i := slices.IndexFunc(items, func(item string) bool { return strings.Contains(item, "{sig}") })
		f := valueForm{separator: ',', item: c.template("value", items[i], valueTokens)}
		if i > 0 {
			f.before = c.template("value", strings.Join(items[:i], ",")+",", valueTokens)
		}
		if i+1 < len(items) {
			f.after = c.template("value", ","+strings.Join(items[i+1:], ","), valueTokens)
		}
		for _, item := range slices.Delete(items, i, i+1) {
			f.others = append(f.others, c.template("value", item, valueTokens))
		}
		return f
	}
	return valueForm{item: whole}
}

// checkValue keeps values such that a receiver can take them apart.
func (c *compiler) checkValue(t template, text string) {
	if t.count(tokenSignature) != 1 {
		c.add("value", "must hold {sig} once")
	}
	if !httpguts.ValidHeaderFieldValue(text) || !ascii(text) || strings.TrimSpace(text) != text {
		c.add("value", "must be printable ASCII, without spaces at its ends")
	}
	for i, p := range t[:max(len(t)-1, 0)] {
		next := t[i+1]
		switch {
		case p.token == tokenText:
		case next.token != tokenText:
			c.add("value", "must have text between tokens")
		case p.token == tokenID && idByte(next.text[0]), p.token != tokenSignature && digit(next.text[0]):
			c.add("value", "must have something after a token that cannot be part of it")
		}
	}
}

// known refuses what a receiver could not recompute, because nothing tells it.
func (c *compiler) known(s *Scheme) {
	if s.content.holds(tokenTime) && s.timestamp == "" && !s.value.holds(tokenTime) {
		c.add("timestamp_header", "is required, or {ts} in value: the template signs {ts}, which receivers must learn")
	}
	if s.content.holds(tokenMillis) && !s.value.holds(tokenMillis) {
		c.add("value", "must hold {ts_ms}: the template signs it, and receivers must learn it")
	}
	if s.content.holds(tokenID) && s.id == "" && !s.value.holds(tokenID) {
		c.add("id_header", "is required, or {id} in value: the template signs {id}, which receivers must learn")
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

// idByte says whether ids may hold b.
func idByte(b byte) bool {
	return digit(b) || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || b == '-' || b == '.'
}
