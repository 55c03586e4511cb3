package manage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/match"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// Bounds of event types.
const (
	maxGroup       = 255
	maxDescription = 4096
	maxExample     = 64 << 10
	maxImport      = 1000
)

var eventTypeFields = []string{"group", "description", "example", "example_content_type", "schema", "schema_policy"}

func checkEventType(e *postriderv1.EventType, path string) []fault.Violation {
	var v violations
	if err := match.CheckEventType(e.GetName()); err != nil {
		v.check(false, path+".name", err.Error())
	}
	v.check(!match.Reserved(e.GetName()), path+".name", `must not begin with "postrider.": those are Postrider's own`)
	v.check(len(e.GetGroup()) <= maxGroup, path+".group", fmt.Sprintf("must be at most %d bytes", maxGroup))
	v.check(len(e.GetDescription()) <= maxDescription, path+".description", fmt.Sprintf("must be at most %d bytes", maxDescription))
	v.check(len(e.GetExample()) <= maxExample, path+".example", fmt.Sprintf("must be at most %d bytes", maxExample))
	e.ExampleContentType = orDefault(e.GetExampleContentType(), "application/json")
	media, _, err := mime.ParseMediaType(e.GetExampleContentType())
	v.check(err == nil, path+".example_content_type", "must be a media type")
	v.check(media != "application/json" || len(e.GetExample()) == 0 || json.Valid(e.GetExample()), path+".example", "must be valid JSON")
	return append(v, checkSchema(e, path)...)
}

// CreateEventType adds an entry to the catalogue.
func (s *Server) CreateEventType(ctx context.Context, req *postriderv1.CreateEventTypeRequest) (*postriderv1.CreateEventTypeResponse, error) {
	acc, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	e := &postriderv1.EventType{}
	if err := copyFields(e, req.GetEventType(), append(eventTypeFields, "name")); err != nil {
		return nil, err
	}
	if violations := checkEventType(e, "event_type"); len(violations) > 0 {
		return nil, fault.InvalidFields(violations...)
	}
	now := timestamppb.New(s.deps.Now())
	e.AccountId, e.CreateTime, e.UpdateTime = acc.GetId(), now, now
	countSchema(nil, e)
	revision, err := s.deps.Store.CreateEventType(ctx, &recordv1.EventType{EventType: e})
	if err != nil {
		return nil, stored(err, "event type", e.GetName())
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketEventTypes, revision); err != nil {
		return nil, unconfirmed(err)
	}
	return &postriderv1.CreateEventTypeResponse{EventType: shownEventType(e, revision)}, nil
}

// GetEventType reads an entry.
func (s *Server) GetEventType(ctx context.Context, req *postriderv1.GetEventTypeRequest) (*postriderv1.GetEventTypeResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	rec, revision, err := s.deps.Store.GetEventType(ctx, string(account), req.GetName())
	if err != nil {
		return nil, stored(err, "event type", req.GetName())
	}
	return &postriderv1.GetEventTypeResponse{EventType: shownEventType(rec.GetEventType(), revision)}, nil
}

// ListEventTypes lists the catalogue by name.
func (s *Server) ListEventTypes(ctx context.Context, req *postriderv1.ListEventTypesRequest) (*postriderv1.ListEventTypesResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := parsePageToken(req.GetPageToken(), "event_types", string(account))
	if err != nil {
		return nil, err
	}
	page, err := s.deps.Store.ListEventTypes(ctx, string(account), after, size+1)
	if err != nil {
		return nil, stored(err, "event types", "")
	}
	resp := &postriderv1.ListEventTypesResponse{}
	bytes := 0
	for i, item := range page {
		bytes += proto.Size(item.Record)
		// A page that is large in bytes is short (AIP-158): the answer must fit into a message.
		if i == size || i > 0 && bytes > maxPageBytes {
			resp.NextPageToken = pageToken(page[i-1].Record.GetEventType().GetName(), "event_types", string(account))
			break
		}
		resp.EventTypes = append(resp.EventTypes, shownEventType(item.Record.GetEventType(), item.Revision))
	}
	return resp, nil
}

// UpdateEventType changes the fields of the mask.
func (s *Server) UpdateEventType(ctx context.Context, req *postriderv1.UpdateEventTypeRequest) (*postriderv1.UpdateEventTypeResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	fields, err := maskFields("event type", req.GetEventType(), req.GetUpdateMask(), eventTypeFields)
	if err != nil {
		return nil, err
	}
	name := req.GetEventType().GetName()
	for range maxRetries {
		e, revision, err := s.changeEventType(ctx, string(account), name, req, fields)
		if again(err, req.GetEventType().GetEtag()) {
			continue
		}
		if _, isFault := fault.As(err); err != nil && !isFault {
			err = stored(err, "event type", name)
		}
		if err != nil {
			return nil, err
		}
		if err := s.deps.Barrier.Confirm(ctx, config.BucketEventTypes, revision); err != nil {
			return nil, unconfirmed(err)
		}
		return &postriderv1.UpdateEventTypeResponse{EventType: shownEventType(e, revision)}, nil
	}
	return nil, stored(config.ErrConflict, "event type", name)
}

func (s *Server) changeEventType(ctx context.Context, account, name string, req *postriderv1.UpdateEventTypeRequest, fields []string) (*postriderv1.EventType, uint64, error) {
	rec, revision, err := s.deps.Store.GetEventType(ctx, account, name)
	if err != nil {
		return nil, 0, err
	}
	if err := checkEtag("event type", name, req.GetEventType().GetEtag(), revision); err != nil {
		return nil, 0, err
	}
	e := rec.GetEventType()
	old := proto.CloneOf(e)
	if err := copyFields(e, req.GetEventType(), fields); err != nil {
		return nil, 0, err
	}
	if violations := checkEventType(e, "event_type"); len(violations) > 0 {
		return nil, 0, fault.InvalidFields(violations...)
	}
	if !req.GetAllowIncompatibleSchema() {
		if narrowed := narrowings(old, e, "event_type"); len(narrowed) > 0 {
			return nil, 0, errNarrowed(narrowed)
		}
	}
	countSchema(old, e)
	e.UpdateTime = timestamppb.New(s.deps.Now())
	revision, err = s.deps.Store.UpdateEventType(ctx, rec, revision)
	return e, revision, err
}

// DeleteEventType removes an entry.
func (s *Server) DeleteEventType(ctx context.Context, req *postriderv1.DeleteEventTypeRequest) (*postriderv1.DeleteEventTypeResponse, error) {
	account, err := s.account(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	revision, err := s.deps.Store.DeleteEventType(ctx, string(account), req.GetName(), 0)
	if err != nil {
		return nil, stored(err, "event type", req.GetName())
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketEventTypes, revision); err != nil {
		return nil, unconfirmed(err)
	}
	return &postriderv1.DeleteEventTypeResponse{}, nil
}

// ImportEventTypes adds or replaces many entries. All are checked before the first is stored;
// after a failure in between, importing again completes it.
func (s *Server) ImportEventTypes(ctx context.Context, req *postriderv1.ImportEventTypesRequest) (*postriderv1.ImportEventTypesResponse, error) {
	acc, err := s.existingAccount(ctx, req.GetAccountId())
	if err != nil {
		return nil, err
	}
	if n := len(req.GetEventTypes()); n == 0 || n > maxImport {
		return nil, invalid("event_types", fmt.Sprintf("must be 1 to %d entries", maxImport))
	}
	var v violations
	seen := make(map[string]bool)
	for i, e := range req.GetEventTypes() {
		path := fmt.Sprintf("event_types[%d]", i)
		v = append(v, checkEventType(e, path)...)
		v.check(!seen[e.GetName()], path+".name", "stands twice in the catalogue")
		seen[e.GetName()] = true
	}
	if len(v) > 0 {
		return nil, fault.InvalidFields(v...)
	}
	if !req.GetAllowIncompatibleSchema() {
		if err := s.checkImportedSchemas(ctx, acc.GetId(), req.GetEventTypes()); err != nil {
			return nil, err
		}
	}
	resp := &postriderv1.ImportEventTypesResponse{}
	var last uint64
	for i, e := range req.GetEventTypes() {
		narrows := func(old, next *postriderv1.EventType) []fault.Violation {
			if req.GetAllowIncompatibleSchema() {
				return nil
			}
			return narrowings(old, next, fmt.Sprintf("event_types[%d]", i))
		}
		created, revision, err := s.putEventType(ctx, acc.GetId(), e, narrows)
		if _, isFault := fault.As(err); err != nil && !isFault {
			err = stored(err, "event type", e.GetName())
		}
		if err != nil {
			return nil, err
		}
		if last = revision; created {
			resp.Created++
		} else {
			resp.Updated++
		}
	}
	if err := s.deps.Barrier.Confirm(ctx, config.BucketEventTypes, last); err != nil {
		return nil, unconfirmed(err)
	}
	return resp, nil
}

// putEventType creates an entry or replaces it, whatever stands there, unless its schema narrows.
func (s *Server) putEventType(
	ctx context.Context, account string, given *postriderv1.EventType, narrows func(old, next *postriderv1.EventType) []fault.Violation,
) (created bool, revision uint64, err error) {
	for range maxRetries {
		e := &postriderv1.EventType{}
		if err := copyFields(e, given, append(eventTypeFields, "name")); err != nil {
			return false, 0, err
		}
		now := timestamppb.New(s.deps.Now())
		e.AccountId, e.CreateTime, e.UpdateTime = account, now, now
		countSchema(nil, e)
		rec := &recordv1.EventType{EventType: e}
		revision, err = s.deps.Store.CreateEventType(ctx, rec)
		if !errors.Is(err, config.ErrExists) {
			return true, revision, err
		}
		old, oldRevision, err := s.deps.Store.GetEventType(ctx, account, e.GetName())
		if errors.Is(err, config.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, 0, err
		}
		if narrowed := narrows(old.GetEventType(), e); len(narrowed) > 0 {
			return false, 0, errNarrowed(narrowed)
		}
		e.CreateTime = old.GetEventType().GetCreateTime()
		countSchema(old.GetEventType(), e)
		revision, err = s.deps.Store.UpdateEventType(ctx, rec, oldRevision)
		if !errors.Is(err, config.ErrConflict) {
			return false, revision, err
		}
	}
	return false, 0, config.ErrConflict
}

func shownEventType(e *postriderv1.EventType, revision uint64) *postriderv1.EventType {
	shown := proto.CloneOf(e)
	shown.Etag = etag(revision)
	return shown
}
