// Package doctor looks at what a deployment stands on, from where it is run: the configuration, NATS,
// Redis, the delivery log, the clocks, and the way to receivers. It says what is wrong and how to mend
// it. It only reads, asks each thing through the package that owns it, and keeps nothing.
package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Status is how a check ended.
type Status string

// The ways in which a check ends. A warning is something that works and may not for long, or not as an
// operator would want it.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failure Status = "failure"
)

// Finding is what one check found: a sentence each on what is, and on how to mend it unless it is ok.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	What   string `json:"what"`
	Mend   string `json:"mend,omitempty"`
}

// Report is all findings, in the order of the checks.
type Report struct {
	Findings []Finding `json:"findings"`
}

// Failures counts the findings that are failures.
func (r *Report) Failures() int {
	n := 0
	for _, f := range r.Findings {
		if f.Status == Failure {
			n++
		}
	}
	return n
}

func (r *Report) ok(check, what string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, OK, fmt.Sprintf(what, args...), ""})
}

func (r *Report) warn(check, mend, what string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, Warning, fmt.Sprintf(what, args...), mend})
}

func (r *Report) fail(check, mend, what string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, Failure, fmt.Sprintf(what, args...), mend})
}

// patience bounds each server's checks.
const patience = 15 * time.Second

// quiet is the log of the connections: what is wrong with them is a finding.
var quiet = slog.New(slog.DiscardHandler)

// Services looks at what the services stand on, by their own configuration. URL, if not empty, is a
// receiver to reach.
func Services(ctx context.Context, cfg *Config, url string) *Report {
	r := &Report{}
	r.secrets(cfg)
	consumer := r.log(ctx, cfg.API)
	r.nats(ctx, cfg, consumer)
	r.redis(ctx, cfg.Redis, true)
	r.egress(ctx, cfg.Dispatcher.Egress, url)
	return r
}

const (
	skewWarning = time.Second
	skewFailure = 10 * time.Second
)

// clock judges how far a server's clock is ahead of ours.
func (r *Report) clock(server string, skew, uncertain time.Duration) {
	const mend = "synchronise the clocks of both machines (NTP): due times, leases and signatures depend on them"
	off := max(skew.Abs()-uncertain, 0)
	what := fmt.Sprintf("%s's clock is %s ahead of ours", server, skew.Round(time.Millisecond))
	switch {
	case off >= skewFailure:
		r.fail("clock", mend, "%s", what)
	case off >= skewWarning:
		r.warn("clock", mend, "%s", what)
	default:
		r.ok("clock", "%s's clock and ours agree to %s", server, (skew.Abs() + uncertain).Round(time.Millisecond))
	}
}

// older reports whether a version such as "2.14.3" is below major.minor. What cannot be read is not.
func older(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}
