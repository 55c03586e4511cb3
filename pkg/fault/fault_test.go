package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/fault"
)

var kinds = map[fault.Kind]struct {
	code codes.Code
	http int
}{
	fault.Invalid:         {codes.InvalidArgument, 400},
	fault.NotFound:        {codes.NotFound, 404},
	fault.AlreadyExists:   {codes.AlreadyExists, 409},
	fault.Precondition:    {codes.FailedPrecondition, 400},
	fault.Unauthenticated: {codes.Unauthenticated, 401},
	fault.Denied:          {codes.PermissionDenied, 403},
	fault.Exhausted:       {codes.ResourceExhausted, 429},
	fault.Unavailable:     {codes.Unavailable, 503},
	fault.Deadline:        {codes.DeadlineExceeded, 504},
	fault.Aborted:         {codes.Aborted, 409},
	fault.Unimplemented:   {codes.Unimplemented, 501},
	fault.Canceled:        {codes.Canceled, 499},
}

func TestKindsMapAsGoogleRPCMaps(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for kind, want := range kinds {
		require.Equal(t, want.code, kind.Code(), kind)
		require.Equal(t, want.http, kind.HTTP(), kind)
		names[kind.String()] = true
	}
	require.Len(t, names, len(kinds))
	require.Equal(t, codes.Internal, fault.Kind(0).Code())
	require.Equal(t, http.StatusInternalServerError, fault.Kind(99).HTTP())
	require.Equal(t, "kind(99)", fault.Kind(99).String())
}

// overWire sends a status as gRPC does.
func overWire(t require.TestingT, st *status.Status) error {
	b, err := proto.Marshal(st.Proto())
	require.NoError(t, err)
	p := status.New(codes.OK, "").Proto()
	require.NoError(t, proto.Unmarshal(b, p))
	return status.FromProto(p).Err()
}

func TestAnErrorSurvivesGRPC(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := fault.New(rapid.SampledFrom(keys()).Draw(t, "kind"), rapid.StringMatching(`[A-Z][A-Z_]{0,20}`).Draw(t, "reason"), rapid.String().Draw(t, "message"))
		for k, v := range rapid.MapOfN(rapid.StringMatching(`[a-z]+`), rapid.String(), 0, 3).Draw(t, "metadata") {
			want = want.WithMetadata(k, v)
		}
		for range rapid.IntRange(0, 3).Draw(t, "violations") {
			want.Violations = append(want.Violations, fault.Violation{Field: rapid.String().Draw(t, "field"), Rule: rapid.String().Draw(t, "rule")})
		}
		if rapid.Bool().Draw(t, "hasRetryAfter") {
			want = want.WithRetryAfter(time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "retryAfter")))
		}

		sent := fmt.Errorf("handler: %w", want.WithCause(errors.New("the disk at 10.0.0.7")))
		st := fault.Status(sent)
		require.Equal(t, want.Kind.Code(), st.Code())
		require.NotContains(t, st.String(), "10.0.0.7", "the cause stays here")

		got, ok := fault.As(fmt.Errorf("call: %w", fault.FromStatus(overWire(t, st))))
		require.True(t, ok)
		require.Equal(t, want, got)
		require.ErrorIs(t, got, want)
	})
}

func keys() []fault.Kind {
	var out []fault.Kind
	for k := fault.Invalid; k <= fault.Canceled; k++ {
		out = append(out, k)
	}
	return out
}

func TestStatusOfOtherErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err    error
		code   codes.Code
		text   string
		reason string
	}{
		"an unknown error tells nothing": {errors.New("dial 10.0.0.7"), codes.Internal, "internal error", fault.ReasonInternal},
		"a cancelled context is told":    {fmt.Errorf("wait: %w", context.Canceled), codes.Canceled, "the caller gave the request up", "CANCELLED"},
		"an ended deadline is told":      {fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "the time for the request is over", "DEADLINE_EXCEEDED"},
		"a library's status keeps code and text": {
			status.Error(codes.Unimplemented, "unknown method X"), codes.Unimplemented, "unknown method X", "UNIMPLEMENTED",
		},
		"a library's transport trouble keeps its code": {
			fmt.Errorf("call: %w", status.Error(codes.Unavailable, "dial 10.0.0.7")), codes.Unavailable, "the service is unavailable; try again", "UNAVAILABLE",
		},
		"a library's internal status tells nothing": {status.Error(codes.Internal, "dial 10.0.0.7"), codes.Internal, "internal error", fault.ReasonInternal},
		"a library's unknown status tells nothing":  {status.Error(codes.Unknown, "dial 10.0.0.7"), codes.Internal, "internal error", fault.ReasonInternal},
		"out of range is a failed precondition":     {status.Error(codes.OutOfRange, "past the end"), codes.FailedPrecondition, "past the end", "FAILED_PRECONDITION"},
		"an error without a kind is internal":       {&fault.Error{Message: "x"}, codes.Internal, "x", fault.ReasonInternal},
		"an error without a reason has its kind's":  {&fault.Error{Kind: fault.Aborted, Message: "x"}, codes.Aborted, "x", "ABORTED"},
		"the outermost of our errors is the one told": {
			fault.New(fault.Unavailable, "A", "outer").WithCause(fault.New(fault.NotFound, "B", "inner")), codes.Unavailable, "outer", "A",
		},
		"ours wins over the context that ended beneath": {
			fault.New(fault.Unavailable, "A", "outer").WithCause(context.DeadlineExceeded), codes.Unavailable, "outer", "A",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := fault.Status(tt.err)
			require.Equal(t, tt.code, st.Code())
			require.Equal(t, tt.text, st.Message())
			require.Len(t, st.Details(), 1)
			info, ok := st.Details()[0].(*errdetails.ErrorInfo)
			require.True(t, ok)
			require.Equal(t, tt.reason, info.GetReason())
			require.Equal(t, fault.Domain, info.GetDomain())
		})
	}
	require.Equal(t, codes.OK, fault.Status(nil).Code())
}

func TestTextThatIsNotUTF8StillCrosses(t *testing.T) {
	t.Parallel()
	sent := fault.InvalidFields(fault.Violation{Field: "a\xff", Rule: "b\xff"}).WithMetadata("k", "c\xff")
	e, ok := fault.As(fault.FromStatus(overWire(t, fault.Status(sent))))
	require.True(t, ok)
	require.Equal(t, "a\uFFFD: b\uFFFD", e.Message)
	require.Equal(t, "c\uFFFD", e.Metadata["k"])
	require.Equal(t, "a\uFFFD", e.Violations[0].Field)
}

func TestFromStatusOfOtherErrors(t *testing.T) {
	t.Parallel()
	require.NoError(t, fault.FromStatus(nil))

	plain := errors.New("plain")
	require.Equal(t, plain, fault.FromStatus(plain))

	ours := fmt.Errorf("call: %w", fault.New(fault.NotFound, "X", "x"))
	require.Equal(t, ours, fault.FromStatus(ours))

	internal := status.Error(codes.Internal, "boom")
	require.Equal(t, internal, fault.FromStatus(internal))
	internal = overWire(t, fault.Status(plain))
	require.Equal(t, internal, fault.FromStatus(internal))

	transport := status.Error(codes.Unavailable, "dial 10.0.0.7")
	e, ok := fault.As(fault.FromStatus(transport))
	require.True(t, ok)
	require.Equal(t, fault.Unavailable, e.Kind)
	require.NotContains(t, e.Message, "10.0.0.7")
	require.ErrorIs(t, e, transport, "the cause is kept for our logs")
	require.ErrorContains(t, e, "10.0.0.7")

	for err, want := range map[error]fault.Kind{context.Canceled: fault.Canceled, context.DeadlineExceeded: fault.Deadline} {
		kind, ok := fault.KindOf(fault.FromStatus(err))
		require.True(t, ok)
		require.Equal(t, want, kind)
		require.ErrorIs(t, fault.FromStatus(err), err)
	}

	foreign, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(
		&errdetails.ErrorInfo{Reason: "RATE", Domain: "example.com"},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "a", Description: "b"}}})
	require.NoError(t, err)
	e, ok = fault.As(fault.FromStatus(foreign.Err()))
	require.True(t, ok)
	require.Equal(t, fault.Exhausted, e.Kind)
	require.Equal(t, "RESOURCE_EXHAUSTED", e.Reason, "a reason of another domain is not ours")
	require.Equal(t, "slow down", e.Message)
	require.Equal(t, []fault.Violation{{Field: "a", Rule: "b"}}, e.Violations)
}

func TestErrorsAsValues(t *testing.T) {
	t.Parallel()
	errGone := fault.New(fault.NotFound, "RETRY_GONE", "no retry is waiting")
	got := errGone.WithMetadata("delivery", "dlv_1").WithCause(errors.New("cause")).WithRetryAfter(time.Second)
	require.ErrorIs(t, fmt.Errorf("x: %w", got), errGone)
	require.NotErrorIs(t, got, fault.New(fault.NotFound, "OTHER", ""))
	require.NotErrorIs(t, got, fault.New(fault.Denied, "RETRY_GONE", ""))
	require.Nil(t, errGone.Metadata, "builders copy")
	require.NoError(t, errGone.Cause)
	require.Equal(t, "no retry is waiting: cause", got.Error())
	require.Equal(t, "no retry is waiting", errGone.Error())
	first := got.WithMetadata("a", "1")
	second := got.WithMetadata("a", "2")
	require.Equal(t, "1", first.Metadata["a"])
	require.Equal(t, "2", second.Metadata["a"])

	_, ok := fault.As(errors.New("x"))
	require.False(t, ok)
	_, ok = fault.KindOf(nil)
	require.False(t, ok)
}

func TestInvalidFieldsListsFieldAndRule(t *testing.T) {
	t.Parallel()
	e := fault.InvalidFields(
		fault.Violation{Field: "webhook.url", Rule: "must be absolute"},
		fault.Violation{Field: "webhook.event_types[2]", Rule: "must not be empty"})
	require.Equal(t, fault.Invalid, e.Kind)
	require.Equal(t, "INVALID_ARGUMENT", e.Reason)
	require.Equal(t, "webhook.url: must be absolute; webhook.event_types[2]: must not be empty", e.Message)
	require.Equal(t, "the request is not valid", fault.InvalidFields().Message)
}

func TestProblem(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		code int
		body string
	}{
		"violations become pointers": {
			fmt.Errorf("x: %w", fault.InvalidFields(
				fault.Violation{Field: "webhook.event_types[2]", Rule: "must not be <empty>"},
				fault.Violation{Field: `webhook.headers["X/a~b.c é"]`, Rule: "is reserved"})),
			400,
			`{"type":"about:blank","title":"Bad Request","status":400,
			  "detail":"webhook.event_types[2]: must not be <empty>; webhook.headers[\"X/a~b.c é\"]: is reserved",
			  "reason":"INVALID_ARGUMENT","request_id":"req-1","errors":[
			  {"pointer":"#/webhook/event_types/2","detail":"must not be <empty>"},
			  {"pointer":"#/webhook/headers/X~1a~0b.c%20%C3%A9","detail":"is reserved"}]}`,
		},
		"metadata are told": {
			fault.New(fault.Exhausted, "TOO_MANY", "slow down").WithMetadata("limit", "10"), 429,
			`{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"slow down","reason":"TOO_MANY","metadata":{"limit":"10"},"request_id":"req-1"}`,
		},
		"an unknown error tells nothing": {
			errors.New("dial 10.0.0.7"), 500,
			`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"internal error","reason":"INTERNAL","request_id":"req-1"}`,
		},
		"a request that was given up has a title": {
			context.Canceled, 499,
			`{"type":"about:blank","title":"Client Closed Request","status":499,"detail":"the caller gave the request up","reason":"CANCELLED","request_id":"req-1"}`,
		},
		"a kind without a reason has its own": {
			&fault.Error{Kind: fault.NotFound, Message: "no such thing"}, 404,
			`{"type":"about:blank","title":"Not Found","status":404,"detail":"no such thing","reason":"NOT_FOUND","request_id":"req-1"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, body := fault.Problem(tt.err, "req-1")
			require.Equal(t, tt.code, code)
			require.JSONEq(t, tt.body, string(body))
		})
	}
}

func TestPointersOfOddPaths(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"":                   "#",
		"a":                  "#/a",
		"a.b.c":              "#/a/b/c",
		"a[0][1].b":          "#/a/0/1/b",
		`a["x.y"].b`:         "#/a/x.y/b",
		`a["x"]["y"]`:        "#/a/x/y",
		"a[":                 "#/a/",
		`a["x`:               "#/a/%22x",
		"a..b":               "#/a//b",
		"[3]":                "#/3",
		`h["` + "\\n" + `"]`: "#/h/%0A",
	} {
		_, body := fault.Problem(fault.InvalidFields(fault.Violation{Field: field, Rule: "r"}), "")
		var got struct {
			Errors []struct{ Pointer string }
		}
		require.NoError(t, json.Unmarshal(body, &got))
		require.Equal(t, want, got.Errors[0].Pointer, field)
	}
}

func FuzzProblem(f *testing.F) {
	f.Add(`a.b["c"][1]`, "rule", "message")
	f.Add(`[[["`, "\xff", "\x00")
	f.Fuzz(func(t *testing.T, field, rule, message string) {
		e := fault.InvalidFields(fault.Violation{Field: field, Rule: rule})
		e.Message = message
		code, body := fault.Problem(e, message)
		require.Equal(t, http.StatusBadRequest, code)
		require.True(t, json.Valid(body))
		require.Equal(t, codes.InvalidArgument, fault.Status(e).Code())
	})
}

func TestWriteProblem(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	fault.WriteProblem(w, fault.New(fault.Exhausted, "TOO_MANY", "slow down").WithRetryAfter(1500*time.Millisecond), "req-1")
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, "2", w.Header().Get("Retry-After"), "rounded up")
	require.Empty(t, w.Header().Get("WWW-Authenticate"))
	require.Contains(t, w.Body.String(), `"request_id":"req-1"`)

	w = httptest.NewRecorder()
	fault.WriteProblem(w, fault.New(fault.Unauthenticated, "NO_KEY", "a key is needed"), "")
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
	require.NotContains(t, w.Body.String(), "request_id")
}
