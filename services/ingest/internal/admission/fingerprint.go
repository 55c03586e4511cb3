package admission

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
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
	h := hasher{Hash: sha256.New()}
	h.text(ev.GetId())
	h.text(ev.GetSource())
	h.text(ev.GetType())
	h.time(ev.GetTime())
	h.pairs(ev.GetLabels())
	h.text(contentType)
	h.text(ev.GetOrderingKey())
	h.time(ev.GetDeliverAt())
	h.pairs(ev.GetExtensions())
	h.number(uint64(len(ev.GetData())))
	h.Write(ev.GetData())
	var sum [sha256.Size]byte
	return dedup.Fingerprint(h.Sum(sum[:0])[:16])
}

type hasher struct {
	hash.Hash

	buf []byte
}

func (h *hasher) number(n uint64) {
	h.buf = binary.BigEndian.AppendUint64(h.buf[:0], n)
	h.Write(h.buf)
}

func (h *hasher) text(s string) {
	h.buf = binary.BigEndian.AppendUint64(h.buf[:0], uint64(len(s)))
	h.buf = append(h.buf, s...)
	h.Write(h.buf)
}

func (h *hasher) time(t *timestamppb.Timestamp) {
	if t == nil {
		h.number(0)
		return
	}
	h.number(1)
	h.number(uint64(t.GetSeconds())) //nolint:gosec // the same bits, for a hash
	h.number(uint64(t.GetNanos()))   //nolint:gosec // the same bits, for a hash
}

func (h *hasher) pairs(m map[string]string) {
	h.number(uint64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		h.text(k)
		h.text(m[k])
	}
}
