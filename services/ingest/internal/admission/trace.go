package admission

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/pkg/telemetry"
)

// traceparentSize is the length of a version 00 traceparent.
const traceparentSize = 55

// Traceparent is what is stored with an event: the span of its acceptance if that is recorded, else
// what the producer sent if it is valid (W3C Trace Context level 1), else nothing.
//
// Where the acceptance has a trace of its own because the producer is not trusted, what it sent is
// stored as not recorded: receivers can still tell by the trace's id what belongs together, and no
// producer decides what we record.
func Traceparent(ctx context.Context, sent string) string {
	accepted := trace.SpanContextFromContext(ctx)
	if accepted.IsSampled() {
		return telemetry.FormatTraceparent(accepted)
	}
	sent = strings.TrimSpace(sent)
	switch {
	case !validTraceparent(sent) && accepted.IsValid():
		return telemetry.FormatTraceparent(accepted)
	case !validTraceparent(sent):
		return ""
	case accepted.IsValid():
		return "00" + sent[2:traceparentSize-2] + "00"
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
