package attempt

import (
	"bytes"
	"slices"
	"strings"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// minHidden is how much of a sensitive text at the end of a cut body is hidden at least.
const minHidden = 8

// hideAll keeps the sensitive texts of a request out of its record: a receiver may send them back,
// in headers or in its body.
func hideAll(a *recordv1.Attempted, sensitive []string) {
	for _, text := range sensitive {
		if text == "" {
			continue
		}
		a.RequestBody = hide(a.GetRequestBody(), text, a.GetRequestBodyTruncated())
		a.ResponseBody = hide(a.GetResponseBody(), text, a.GetResponseBodyTruncated())
		a.ResponseHeaders = hideHeaders(a.GetResponseHeaders(), text)
		a.RequestHeaders = hideHeaders(a.GetRequestHeaders(), text)
		a.RequestUrl = hideText(a.GetRequestUrl(), text)
		a.ErrorMessage = hideText(a.GetErrorMessage(), text)
	}
}

func hideHeaders(headers map[string]string, text string) map[string]string {
	if len(headers) == 0 {
		return headers
	}
	out := make(map[string]string, len(headers))
	for name, value := range headers {
		if strings.Contains(strings.ToLower(name), strings.ToLower(text)) { // names lose their case
			name = mask
		}
		out[name] = hideText(value, text)
	}
	return out
}

func hideText(s, text string) string {
	if len(s) >= maxHeaderName { // it may have been cut
		return string(hide([]byte(s), text, true))
	}
	return strings.ReplaceAll(s, text, mask)
}

// hide masks the text wherever it stands. At the end of what was cut, its beginning may stand too.
func hide(body []byte, text string, cut bool) []byte {
	if bytes.Contains(body, []byte(text)) {
		body = bytes.ReplaceAll(body, []byte(text), []byte(mask))
	}
	if !cut {
		return body
	}
	for n := len(text) - 1; n >= minHidden; n-- {
		if rest, ok := bytes.CutSuffix(body, []byte(text[:n])); ok {
			return append(slices.Clip(rest), mask...)
		}
	}
	return body
}
