package retryset

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
)

// slotCount is into how many keys the index is cut. It is fixed: other replicas and the next
// version must find the same member in the same key. Sixteen spread over the nodes of a
// Redis cluster, and are few enough to be claimed in one round trip.
const slotCount = 16

// Slots is a set of slots.
type Slots uint16

// AllSlots is the whole index.
const AllSlots Slots = 1<<slotCount - 1

// Has reports whether the slot is in the set.
func (s Slots) Has(slot int) bool { return s&(1<<slot) != 0 }

// With is the set and the slot.
func (s Slots) With(slot int) Slots { return s | 1<<slot }

// Count is how many slots are in the set.
func (s Slots) Count() int { return bits.OnesCount16(uint16(s)) }

// Slot is the part of the index that the member is in.
func (m Member) Slot() int { return slotOf(m) }

// slotOf is the slot of a member. Sequences are handed out one by one, so that neighbours
// fall into different slots and all slots fill alike.
func slotOf(m Member) int {
	return (m.Shard + int(m.Sequence%slotCount)) % slotCount
}

// String is the member as Redis stores it: "<shard>:<sequence>", as short as it is readable.
// Every byte of it is paid for by each waiting retry.
func (m Member) String() string {
	b := make([]byte, 0, 24)
	b = strconv.AppendInt(b, int64(m.Shard), 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, m.Sequence, 10)
	return string(b)
}

// ParseMember reads what String wrote, and nothing else.
func ParseMember(s string) (Member, error) {
	shard, sequence, ok := strings.Cut(s, ":")
	if !ok {
		return Member{}, fmt.Errorf("retry member %q has no colon", s)
	}
	n, err := strconv.ParseUint(shard, 10, 16)
	if err != nil || n >= postrider.MaxShards {
		return Member{}, fmt.Errorf("retry member %q names no shard", s)
	}
	seq, err := strconv.ParseUint(sequence, 10, 64)
	if err != nil {
		return Member{}, fmt.Errorf("retry member %q names no sequence", s)
	}
	m := Member{Shard: int(n), Sequence: seq}
	if m.String() != s {
		return Member{}, fmt.Errorf("retry member %q is not in its shortest form", s)
	}
	return m, nil
}

// Tick is what to add to a due time that was cut to milliseconds, so that nothing is claimed
// before it is due.
const Tick = time.Millisecond

// score is a time as the index sorts it: Unix milliseconds, rounded up, so that nothing is
// claimed before it is due.
func score(t time.Time) int64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return t.Add(Tick - time.Nanosecond).UnixMilli()
}
