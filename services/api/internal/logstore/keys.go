package logstore

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/postrider/postrider/pkg/postrider"
)

// What is looked for by a text is found by a number that is made of it: an index of numbers is a fraction of one of
// ids, compares them at once, and grows at its end where they grow with time. Texts that share a number are told
// apart by the rows, so that each condition names both.

// textKey is the number of an account, a webhook or such.
func textKey(parts ...string) int32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.Join(parts, "\x00"))) // never fails
	return int32(h.Sum32())                             //nolint:gosec // the same bits
}

// longKey is the number of one of very many texts of an account: what an event is found by.
func longKey(account, text string) int64 {
	if text == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(account + "\x00" + text)) // never fails
	return int64(h.Sum64() >> 1)                    // 63 bits
}

// eventKey is the number of an event, in the order of the ids: the first 63 bits of its ULID, which begins with its
// time. That of an id that is none is the least.
func eventKey(id string) int64 {
	u, ok := postrider.EventID(id).ULID()
	if !ok {
		return 0
	}
	return int64(binary.BigEndian.Uint64(u[:8]) >> 1) // 63 bits
}

// keyList is a list of numbers as SQL has it.
func keyList(keys []int64) string {
	b := []byte{'('}
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, k, 10)
	}
	return string(append(b, ')'))
}
