package grpcapi

import (
	"context"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/services/scheduler/internal/retryset"
)

// maxCompared is how many records one call may name.
const maxCompared = 4096

// CompareIndex says which records the index does not have, and puts them back if asked.
//
// Missing, then read, then add: a record that was released since it was found missing is gone by
// then and is not put back. One that is released between the read and the add leaves a member
// without a record, which whoever claims it drops.
func (s *Server) CompareIndex(ctx context.Context, req *schedulerv1.CompareIndexRequest) (*schedulerv1.CompareIndexResponse, error) {
	if len(req.GetRecords()) > maxCompared {
		return nil, fault.InvalidFields(fault.Violation{Field: "records", Rule: "must be at most 4096"})
	}
	members := make([]retryset.Member, 0, len(req.GetRecords()))
	for _, r := range req.GetRecords() {
		if r.GetShard() < 0 || int(r.GetShard()) >= s.deps.Records.Layout().Streams {
			return nil, fault.InvalidFields(fault.Violation{Field: "records", Rule: "must name shards that there are"})
		}
		members = append(members, retryset.Member{Shard: int(r.GetShard()), Sequence: r.GetSequence()})
	}
	resp := &schedulerv1.CompareIndexResponse{}
	if len(members) == 0 {
		return resp, nil
	}
	missing, err := s.deps.Index.Missing(ctx, members)
	if err != nil {
		return nil, unavailable(err)
	}
	resp.Missing = places(missing)
	if !req.GetRepair() || len(missing) == 0 {
		return resp, nil
	}
	back, err := s.standing(ctx, missing)
	if err != nil {
		return nil, unavailable(err)
	}
	if err := s.deps.Index.Add(ctx, back...); err != nil {
		return nil, unavailable(err)
	}
	repaired := make([]retryset.Member, 0, len(back))
	for _, e := range back {
		repaired = append(repaired, e.Member)
		s.deps.Wake(e.Due)
	}
	resp.Repaired = places(repaired)
	return resp, nil
}

// standing is an entry for each of the members whose record stands and belongs into the index.
func (s *Server) standing(ctx context.Context, members []retryset.Member) ([]retryset.Entry, error) {
	byShard := make(map[int][]uint64)
	for _, m := range members {
		byShard[m.Shard] = append(byShard[m.Shard], m.Sequence)
	}
	var entries []retryset.Entry
	for shard, sequences := range byShard {
		found, err := s.deps.Records.GetAll(ctx, shard, sequences)
		if err != nil {
			return nil, err
		}
		for _, rec := range found {
			if rec != nil && rec.Retry.GetKind() != recordv1.RetryKind_RETRY_KIND_HELD {
				entries = append(entries, entryOf(*rec))
			}
		}
	}
	return entries, nil
}

// entryOf is what the index holds of a record.
func entryOf(rec retrystream.Record) retryset.Entry {
	return retryset.Entry{Member: retryset.Member{Shard: rec.Shard, Sequence: rec.Sequence}, Due: rec.Retry.GetDueTime().AsTime()}
}

func places(members []retryset.Member) []*schedulerv1.RecordPlace {
	out := make([]*schedulerv1.RecordPlace, 0, len(members))
	for _, m := range members {
		out = append(out, &schedulerv1.RecordPlace{Shard: int32(m.Shard), Sequence: m.Sequence}) //nolint:gosec // a shard's number
	}
	return out
}
