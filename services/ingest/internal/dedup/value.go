package dedup

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/oklog/ulid/v2"
)

// A key's value is a fixed record, so that scripts can compare parts of it by position (Lua
// counts from 1):
//
//	1       version, 1
//	2       state: 'p' pending or 'f' finished
//	3-10    token of the claim
//	11-18   incarnation of the account's segment of EVENTS
//	19-34   fingerprint
//	35-50   event id (ULID); its time is when the key was first claimed
//	51-58   finished: sequence in that segment
//	51-54   pending: the remaining life of the key, in ms, at which it may be taken over
//	55-58   pending: the life that the key began with, in ms
//
// Lives instead of times of day keep the clocks of replicas, and steps of them, out of every
// decision: the only clock is the one that expires keys.
const (
	valueVersion = 1
	valueSize    = 58

	statePending  = 'p'
	stateFinished = 'f'
)

// value is a key's value, decoded.
type value struct {
	state       byte
	token       Token
	incarnation [8]byte
	fingerprint Fingerprint
	event       ulid.ULID
	sequence    uint64        // finished
	takeAt      time.Duration // pending: may be taken once the remaining life is at most this
	life        time.Duration // pending
}

// errValue means that a value is none that this version knows.
var errValue = errors.New("unknown form of deduplication value")

func (v *value) encode() []byte {
	b := make([]byte, 0, valueSize)
	b = append(b, valueVersion, v.state)
	b = append(b, v.token[:]...)
	b = append(b, v.incarnation[:]...)
	b = append(b, v.fingerprint[:]...)
	b = append(b, v.event[:]...)
	if v.state == stateFinished {
		return binary.BigEndian.AppendUint64(b, v.sequence)
	}
	b = binary.BigEndian.AppendUint32(b, millis(v.takeAt))
	return binary.BigEndian.AppendUint32(b, millis(v.life))
}

// decodeValue reads a value. A longer one is a later version's, which may add to the end.
func decodeValue(b string) (v value, err error) {
	if len(b) < valueSize || b[0] != valueVersion || (b[1] != statePending && b[1] != stateFinished) {
		return value{}, errValue
	}
	v.state = b[1]
	copy(v.token[:], b[2:])
	copy(v.incarnation[:], b[10:])
	copy(v.fingerprint[:], b[18:])
	copy(v.event[:], b[34:])
	tail := []byte(b[50:58])
	if v.state == stateFinished {
		v.sequence = binary.BigEndian.Uint64(tail)
		return v, nil
	}
	v.takeAt = time.Duration(binary.BigEndian.Uint32(tail)) * time.Millisecond
	v.life = time.Duration(binary.BigEndian.Uint32(tail[4:])) * time.Millisecond
	return v, nil
}

// millis is d in whole milliseconds, held to what 32 bits carry (49 days).
func millis(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), 1<<32-1))
}

// pendingValue is the value of a fresh claim.
func pendingValue(c *Claim, incarnation [8]byte, takeover time.Duration) value {
	return value{
		state: statePending, token: c.Token, incarnation: incarnation, fingerprint: c.Fingerprint, event: c.Event,
		takeAt: c.Window - takeover, life: c.Window,
	}
}

// answer is what a standing value says to a claim; the token tells a repeated request of our own.
func (v *value) answer(c *Claim, incarnation [8]byte) Result {
	switch {
	case v.state == statePending && v.token == c.Token:
		return Result{Outcome: Claimed, Event: v.event}
	case v.state == statePending, v.incarnation != incarnation:
		return Result{Outcome: Pending}
	case v.fingerprint == c.Fingerprint:
		return Result{Outcome: Duplicate, Event: v.event, Sequence: v.sequence}
	default:
		return Result{Outcome: Conflict, Event: v.event, Sequence: v.sequence}
	}
}

// finishedValue is the value of a key whose event is stored.
func finishedValue(d *Finished, incarnation [8]byte) value {
	return value{
		state: stateFinished, token: d.Token, incarnation: incarnation, fingerprint: d.Fingerprint,
		event: d.Event, sequence: d.Sequence,
	}
}
