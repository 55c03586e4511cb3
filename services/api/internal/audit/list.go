package audit

import (
	"context"
	"strconv"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	defaultPage = 50
	maxPage     = 1000
)

// ListAuditEntries lists the changes to an account, newest first.
func (l *Log) ListAuditEntries(ctx context.Context, req *postriderv1.ListAuditEntriesRequest) (*postriderv1.ListAuditEntriesResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, err
	}
	account := ""
	if !p.Admin || req.GetAccountId() != "" {
		id, err := p.For(req.GetAccountId())
		if err != nil {
			return nil, err
		}
		account = string(id)
	}
	size := int(req.GetPageSize())
	if size < 0 {
		return nil, fault.InvalidFields(fault.Violation{Field: "page_size", Rule: "must not be negative"})
	}
	if size == 0 {
		size = defaultPage
	}
	size = min(size, maxPage)
	var before uint64
	if token := req.GetPageToken(); token != "" {
		if before, err = strconv.ParseUint(token, 36, 64); err != nil || before == 0 {
			return nil, fault.InvalidFields(fault.Violation{Field: "page_token", Rule: "is not a token that a list gave"})
		}
	}
	entries, err := l.store.List(ctx, account, before, size+1)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "AUDIT_UNAVAILABLE", "the audit log cannot be read now").WithCause(err)
	}
	resp := &postriderv1.ListAuditEntriesResponse{Entries: entries}
	if len(entries) > size {
		resp.Entries = entries[:size]
		resp.NextPageToken = strconv.FormatUint(entries[size-1].GetSequence(), 36)
	}
	return resp, nil
}
