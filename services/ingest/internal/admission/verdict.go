package admission

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Verdict is a receipt or the reason why there is none.
type Verdict struct {
	Receipt *postriderv1.Receipt
	Err     error
}

// Public is the verdict as the public API shows it among others, with the same code, reason and
// violations that a call of its own would have been answered with.
func (v Verdict) Public() *postriderv1.PublishVerdict {
	if v.Err == nil {
		return &postriderv1.PublishVerdict{Verdict: &postriderv1.PublishVerdict_Receipt{Receipt: v.Receipt}}
	}
	return &postriderv1.PublishVerdict{Verdict: &postriderv1.PublishVerdict_Error{Error: publishError(v.Err)}}
}

func publishError(err error) *postriderv1.PublishError {
	st := fault.Status(err)
	e := &postriderv1.PublishError{Code: int32(st.Code()), Message: st.Message()} //nolint:gosec // codes are small
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.Reason = d.GetReason()
		case *errdetails.RetryInfo:
			e.RetryDelay = d.GetRetryDelay()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.FieldViolations = append(e.FieldViolations, &postriderv1.FieldViolation{Field: v.GetField(), Description: v.GetDescription()})
			}
		}
	}
	return e
}
