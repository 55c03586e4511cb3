package admission

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// traceparentSize is the length of a version 00 traceparent.
const traceparentSize = 55

// Traceparent is what is stored with an event: the span of its acceptance if there is one, which
// goes on with the producer's trace, else what the producer sent if it is valid (W3C Trace Context
// level 1), else nothing.
func Traceparent(ctx context.Context, sent string) string {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
	}
	sent = strings.TrimSpace(sent)
	if !validTraceparent(sent) {
		return ""
	}
	return "00" + sent[2:traceparentSize]
}

// validTraceparent also takes versions to come, which may only add to the end.
func validTraceparent(s string) bool {
	if len(s) < traceparentSize || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, traceID, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if !lowerHex(version) || !lowerHex(traceID) || !lowerHex(parent) || !lowerHex(flags) {
		return false
	}
	if version == "ff" || strings.Trim(traceID, "0") == "" || strings.Trim(parent, "0") == "" {
		return false
	}
	return len(s) == traceparentSize || (version != "00" && s[traceparentSize] == '-')
}

func lowerHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
