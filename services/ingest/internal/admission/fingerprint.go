package admission

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
)

// fingerprint hashes everything that the producer said about the event, but not the idempotency
// key. Each part goes in with its length, so that no two events give the same bytes; what is
// absent is told from what is empty where that makes a difference. Its value is stored with
// events: it must not change between versions.
func fingerprint(ev *postriderv1.EventInput, contentType string) dedup.Fingerprint {
	p := make(parts, 0, 512)
	p = p.text(ev.GetId())
	p = p.text(ev.GetSource())
	p = p.text(ev.GetType())
	p = p.time(ev.GetTime())
	p = p.pairs(ev.GetLabels())
	p = p.text(contentType)
	p = p.text(ev.GetOrderingKey())
	p = p.time(ev.GetDeliverAt())
	p = p.pairs(ev.GetExtensions())
	p = p.number(uint64(len(ev.GetData())))
	h := sha256.New()
	h.Write(p)
	h.Write(ev.GetData())
	var sum [sha256.Size]byte
	return dedup.Fingerprint(h.Sum(sum[:0])[:16])
}

// parts collects what is hashed.
type parts []byte

func (p parts) number(n uint64) parts { return binary.BigEndian.AppendUint64(p, n) }

func (p parts) text(s string) parts { return append(p.number(uint64(len(s))), s...) }

func (p parts) time(t *timestamppb.Timestamp) parts {
	if t == nil {
		return p.number(0)
	}
	return p.number(1).
		number(uint64(t.GetSeconds())). //nolint:gosec // the same bits, for a hash
		number(uint64(t.GetNanos()))    //nolint:gosec // the same bits, for a hash
}

func (p parts) pairs(m map[string]string) parts {
	p = p.number(uint64(len(m)))
	if len(m) == 0 {
		return p
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		p = p.text(k).text(m[k])
	}
	return p
}
