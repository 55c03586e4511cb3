package reconcile

import (
	"context"
	"maps"
	"slices"
)

// applied is how many messages of the journal are applied at once.
const applied = 64

// repair puts back what is only an index: the log's rows from the journal, and the index's members
// by the scheduler. After that it has records made again of what is in no place.
func (r *run) repair(ctx context.Context, suspects findings) error {
	messages := make(map[uint64]bool)
	byRecord := make(map[recordAt]*finding)
	for _, f := range suspects {
		for _, sequence := range f.journal {
			messages[sequence] = true
		}
		if f.kind == notIndexed {
			byRecord[recordAt{int32(f.record.shard), f.record.sequence}] = f //nolint:gosec // a shard's number
		}
	}
	for part := range slices.Chunk(slices.Sorted(maps.Keys(messages)), applied) {
		entries, err := r.deps.Journal.Read(ctx, part)
		if err != nil {
			return err
		}
		if err := r.deps.Log.Apply(ctx, entries); err != nil {
			return err
		}
	}
	for _, f := range suspects {
		f.repaired = f.kind == logBehind
	}
	_, repaired, err := r.compareIndex(ctx, slices.Collect(maps.Keys(byRecord)), true)
	for _, at := range repaired {
		if f := byRecord[at]; f != nil {
			f.repaired = true
		}
	}
	if err != nil {
		return err
	}
	return r.remake(ctx, suspects)
}
