package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/pkg/fault"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnavailable = 5
)

// usageError is a mistake in how the program was called.
type usageError struct{ err error }

// Error is the mistake.
func (e *usageError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *usageError) Unwrap() error { return e.err }

func usage(err error) error { return &usageError{err} }

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// codeError is an error whose exit code its command chose.
type codeError struct {
	code int
	err  error
}

// Error is the text.
func (e *codeError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *codeError) Unwrap() error { return e.err }

func failf(format string, args ...any) error {
	return &codeError{exitFailure, fmt.Errorf(format, args...)}
}

// report tells the user what went wrong and returns the exit code. With -o json it is one object on a line
// of the error stream.
func (p *program) report(err error) int {
	if err == nil {
		return exitOK
	}
	code := p.exitCode(err)
	if p.globals.output == outputJSON {
		_ = json.NewEncoder(p.Err).Encode(map[string]failure{"error": p.failure(err, code)}) // there is nowhere left to say that it failed
		return code
	}
	for _, line := range p.explain(err) {
		p.note("postrider: %s", line)
	}
	if code == exitUsage {
		p.note("Run it with --help to see how it is used.")
	}
	return code
}

// failure is an error as programs read it.
type failure struct {
	// Kind is what the caller can do about it, such as not_found; empty if no server was asked.
	Kind string `json:"kind,omitempty"`
	// Reason is a constant, UPPER_SNAKE.
	Reason string `json:"reason,omitempty"`
	// Message is what people read.
	Message string `json:"message"`
	// Violations are the fields that broke a rule.
	Violations []violation `json:"violations,omitempty"`
	// RetryAfter is how many seconds to wait before another try.
	RetryAfter float64 `json:"retry_after_seconds,omitempty"`
	ExitCode   int     `json:"exit_code"`
}

type violation struct {
	Field string `json:"field"`
	Rule  string `json:"rule"`
}

func (p *program) failure(err error, code int) failure {
	f := failure{Message: strings.Join(p.explain(err), "; "), ExitCode: code}
	if e, ok := fault.As(err); ok {
		f.Kind, f.Reason, f.RetryAfter = e.Kind.String(), e.Reason, e.RetryAfter.Seconds()
		for _, v := range e.Violations {
			f.Violations = append(f.Violations, violation{v.Field, v.Rule})
		}
	}
	return f
}

// exitCode is what programs learn of an error.
func (p *program) exitCode(err error) int {
	var coded *codeError
	var mistake *usageError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &mistake), !p.began:
		return exitUsage
	}
	kind, _ := fault.KindOf(err)
	return exitCodeOf(kind)
}

// exitCodeOf is the exit code of a kind; those that are none are failures.
func exitCodeOf(kind fault.Kind) int {
	switch kind {
	case fault.NotFound:
		return exitNotFound
	case fault.Invalid, fault.AlreadyExists, fault.Precondition, fault.Unauthenticated, fault.Denied, fault.Aborted:
		return exitRefused
	case fault.Unavailable, fault.Deadline, fault.Exhausted:
		return exitUnavailable
	case fault.Unimplemented, fault.Canceled:
		return exitFailure
	default:
		return exitFailure
	}
}

// explain is what people learn of an error: a line each for what is wrong, and what they can do.
func (p *program) explain(err error) []string {
	e, ok := fault.As(err)
	if !ok {
		if errors.Is(err, context.Canceled) {
			return []string{"interrupted"}
		}
		return []string{err.Error()}
	}
	var lines []string
	for i, v := range e.Violations {
		if slices.Contains(e.Violations[:i], v) {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %s", v.Field, v.Rule))
		if v.Field == "account_id" {
			lines = append(lines, "name the account with --account or POSTRIDER_ACCOUNT; postrider accounts list shows them")
		}
	}
	if len(lines) == 0 {
		text := e.Message
		if e.Reason != "" {
			text += " (" + e.Reason + ")"
		}
		lines = append(lines, text)
	}
	lines = append(lines, p.advice(e)...)
	for i := range lines {
		lines[i] = printable(strings.TrimSpace(lines[i]))
	}
	return lines
}

// advice is what the user can do about an error.
func (p *program) advice(e *fault.Error) []string {
	var lines []string
	if e.Kind == fault.Unauthenticated && p.globals.key == "" {
		lines = append(lines, "give a credential with POSTRIDER_KEY or --key")
	}
	if e.Kind == fault.Unavailable && e.Cause != nil { // made by gRPC, not by a service
		lines = append(lines, fmt.Sprintf("is %s the right server, and does it run? \"postrider up\" runs one here", p.globals.server))
	}
	if e.RetryAfter > 0 {
		lines = append(lines, fmt.Sprintf("try again in %s", e.RetryAfter))
	}
	return lines
}
