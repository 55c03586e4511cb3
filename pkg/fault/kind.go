package fault

import (
	"net/http"

	"google.golang.org/grpc/codes"
)

// Reasons that the package itself gives.
const (
	reasonInvalid = "INVALID_ARGUMENT"
	// ReasonInternal is the reason of every error that holds no *Error.
	ReasonInternal = "INTERNAL"
)

// row is what a kind is called and what it is over gRPC and over HTTP.
type row struct {
	name   string
	code   codes.Code
	status int
	reason string
	// text stands in for messages that another process or library gave and that may name
	// addresses; empty where such a message may be shown.
	text string
}

// statusClientClosedRequest is what HTTP gateways say of a request that its client gave up.
const statusClientClosedRequest = 499

// rows maps kinds as google.rpc.Code maps codes to HTTP.
var rows = map[Kind]row{
	Invalid:         {"invalid", codes.InvalidArgument, http.StatusBadRequest, reasonInvalid, ""},
	NotFound:        {"not_found", codes.NotFound, http.StatusNotFound, "NOT_FOUND", ""},
	AlreadyExists:   {"already_exists", codes.AlreadyExists, http.StatusConflict, "ALREADY_EXISTS", ""},
	Precondition:    {"precondition", codes.FailedPrecondition, http.StatusBadRequest, "FAILED_PRECONDITION", ""},
	Unauthenticated: {"unauthenticated", codes.Unauthenticated, http.StatusUnauthorized, "UNAUTHENTICATED", ""},
	Denied:          {"denied", codes.PermissionDenied, http.StatusForbidden, "PERMISSION_DENIED", ""},
	Exhausted:       {"exhausted", codes.ResourceExhausted, http.StatusTooManyRequests, "RESOURCE_EXHAUSTED", ""},
	Unavailable:     {"unavailable", codes.Unavailable, http.StatusServiceUnavailable, "UNAVAILABLE", "the service is unavailable; try again"},
	Deadline:        {"deadline", codes.DeadlineExceeded, http.StatusGatewayTimeout, "DEADLINE_EXCEEDED", "the time for the request is over"},
	Aborted:         {"aborted", codes.Aborted, http.StatusConflict, "ABORTED", ""},
	Unimplemented:   {"unimplemented", codes.Unimplemented, http.StatusNotImplemented, "UNIMPLEMENTED", ""},
	Canceled:        {"canceled", codes.Canceled, statusClientClosedRequest, "CANCELLED", "the caller gave the request up"},
}

// Code is the gRPC code of the kind; Internal for a kind that is none.
func (k Kind) Code() codes.Code {
	if r, ok := rows[k]; ok {
		return r.code
	}
	return codes.Internal
}

// HTTP is the HTTP status of the kind; 500 for a kind that is none.
func (k Kind) HTTP() int {
	if r, ok := rows[k]; ok {
		return r.status
	}
	return http.StatusInternalServerError
}

// kindOfCode is the inverse of Code. OutOfRange is a request that is not valid now, as its
// definition says; codes that blame us (Internal, Unknown, DataLoss) have no kind.
func kindOfCode(c codes.Code) (Kind, bool) {
	if c == codes.OutOfRange {
		return Precondition, true
	}
	for k, r := range rows {
		if r.code == c {
			return k, true
		}
	}
	return 0, false
}
