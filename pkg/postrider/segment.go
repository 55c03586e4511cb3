package postrider

import "github.com/cespare/xxhash/v2"

// MaxSegments is the largest number of segments that events are split into.
const MaxSegments = 64

// SegmentOf is the segment of an account's events when there are segments of them, in [0, segments);
// 0 if there are fewer than two. All events of one account are in one segment, so that a sequence and
// an account name an event. Where stored events are depends on it: it never changes.
func SegmentOf(account AccountID, segments int) int {
	if segments < 2 {
		return 0
	}
	return int(xxhash.Sum64String(string(account)) % uint64(segments)) //nolint:gosec // below 64
}
