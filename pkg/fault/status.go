package fault

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain is the ErrorInfo domain of our errors.
const Domain = "postrider"

// internalText is all that a caller learns of an error that holds no *Error.
const internalText = "internal error"

// Status converts err for gRPC: the code of its kind, always one ErrorInfo (domain Domain), a
// BadRequest if there are violations, a RetryInfo if there is a RetryAfter. An error without
// *Error is Internal with a fixed text, except for an ended context and for a status that a
// library made (an unknown method, say), which keep their codes. A nil err is OK.
func Status(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	return build(resolve(err))
}

// resolve is the *Error that callers see for err.
func resolve(err error) *Error {
	if e, ok := As(err); ok {
		if e.Reason != "" {
			return e
		}
		e = e.clone()
		e.Reason = cmp.Or(rows[e.Kind].reason, ReasonInternal)
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return generic(Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return generic(Deadline)
	}
	if st, ok := status.FromError(err); ok {
		if e, ok := fromForeign(st); ok {
			return e
		}
	}
	return &Error{Reason: ReasonInternal, Message: internalText}
}

// build makes the status of one *Error. Protobuf's strings are UTF-8, so what is not is replaced.
func build(e *Error) *status.Status {
	st := status.New(e.Kind.Code(), valid(e.Message))
	info := &errdetails.ErrorInfo{Reason: valid(e.Reason), Domain: Domain}
	if len(e.Metadata) > 0 {
		info.Metadata = make(map[string]string, len(e.Metadata))
		for k, v := range e.Metadata {
			info.Metadata[valid(k)] = valid(v)
		}
	}
	details := []protoadapt.MessageV1{info}
	if len(e.Violations) > 0 {
		bad := &errdetails.BadRequest{FieldViolations: make([]*errdetails.BadRequest_FieldViolation, len(e.Violations))}
		for i, v := range e.Violations {
			bad.FieldViolations[i] = &errdetails.BadRequest_FieldViolation{Field: valid(v.Field), Description: valid(v.Rule)}
		}
		details = append(details, bad)
	}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	full, err := st.WithDetails(details...)
	if err != nil { // only for code OK, which no kind has
		return st
	}
	return full
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// FromStatus turns an error that a gRPC call returned back into the *Error that the server
// returned. A status without our ErrorInfo (made by gRPC itself or by a proxy) becomes an *Error
// of the code's kind, whose Cause is err; Internal and Unknown stay as they are, and so does
// what is no status at all.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := As(err); ok {
		return err
	}
	st, ok := status.FromError(err)
	if !ok {
		switch {
		case errors.Is(err, context.Canceled):
			return generic(Canceled).WithCause(err)
		case errors.Is(err, context.DeadlineExceeded):
			return generic(Deadline).WithCause(err)
		}
		return err
	}
	if e, ok := fromOurs(st); ok {
		return e
	}
	if e, ok := fromForeign(st); ok {
		return e.WithCause(err)
	}
	return err
}

// fromOurs reads a status that Status built.
func fromOurs(st *status.Status) (*Error, bool) {
	kind, ok := kindOfCode(st.Code())
	if !ok {
		return nil, false
	}
	e := &Error{Kind: kind, Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				e.Reason, e.Metadata = d.GetReason(), d.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: v.GetField(), Rule: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e, e.Reason != ""
}

// fromForeign reads a status that somebody else built: its code, its field violations and its
// message, the last only where it cannot name the inside of the deployment.
func fromForeign(st *status.Status) (*Error, bool) {
	kind, ok := kindOfCode(st.Code())
	if !ok {
		return nil, false
	}
	e := generic(kind)
	if rows[kind].text == "" {
		e.Message = st.Message()
	}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Violations = append(e.Violations, Violation{Field: v.GetField(), Rule: v.GetDescription()})
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e, true
}

// generic is an *Error of the kind with the kind's own reason and text.
func generic(kind Kind) *Error {
	r := rows[kind]
	return &Error{Kind: kind, Reason: r.reason, Message: r.text}
}
