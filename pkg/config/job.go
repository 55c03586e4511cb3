package config

import (
	"context"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// JobName names a job of an account.
type JobName struct{ Account, ID string }

// CreateJob stores a new job; ErrExists if its id is taken. A job goes away 30 days after its last
// write.
func (s *Store) CreateJob(ctx context.Context, j *recordv1.Job) (uint64, error) {
	id := j.GetReplay().GetId()
	rev, err := s.jobs.create(ctx, key(j.GetReplay().GetAccountId(), id), j)
	return rev, about("create job", id, err)
}

// UpdateJob replaces the job if it is at revision rev. It does not look first: a holder writes one
// job many times.
func (s *Store) UpdateJob(ctx context.Context, j *recordv1.Job, rev uint64) (uint64, error) {
	id := j.GetReplay().GetId()
	if rev == 0 {
		return 0, about("update job", id, ErrConflict) // to the bucket, 0 would be a creation
	}
	made, err := s.jobs.put(ctx, key(j.GetReplay().GetAccountId(), id), j, rev)
	return made, about("update job", id, err)
}

// GetJob reads a job and its revision.
func (s *Store) GetJob(ctx context.Context, account, id string) (*recordv1.Job, uint64, error) {
	j, rev, err := s.jobs.get(ctx, key(account, id))
	return j, rev, about("read job", id, err)
}

// ListJobs reads an account's jobs, the newest id first: those before beforeID, at most limit.
func (s *Store) ListJobs(ctx context.Context, account, beforeID string, limit int) ([]Entry[*recordv1.Job], error) {
	newestFirst := func(k string) (string, bool) {
		parts, ok := splitKey(k, 2)
		if !ok {
			return "", false
		}
		return opposite(parts[1]), true
	}
	after := ""
	if beforeID != "" {
		after = opposite(beforeID)
	}
	out, err := s.jobs.list(ctx, key(account)+".*", newestFirst, after, limit)
	return out, about("list jobs of", account, err)
}

// JobNames lists the jobs of all accounts, in no order, without reading them.
func (s *Store) JobNames(ctx context.Context) ([]JobName, error) {
	keys, err := s.jobs.bucket.Keys(ctx, ">")
	if err != nil {
		return nil, about("list", "jobs", translate(err))
	}
	names := make([]JobName, 0, len(keys))
	for _, k := range keys {
		if parts, ok := splitKey(k, 2); ok {
			names = append(names, JobName{Account: parts[0], ID: parts[1]})
		}
	}
	return names, nil
}

// opposite sorts ids of equal length the other way round.
func opposite(id string) string {
	out := []byte(id)
	for i := range out {
		out[i] = ^out[i]
	}
	return string(out)
}
