package admission

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

var kilobyte = `{"text":"` + strings.Repeat("x", 1000) + `"}`

func BenchmarkAccept(b *testing.B) {
	for name, keyed := range map[string]bool{"with a key": true, "without": false} {
		b.Run(name, func(b *testing.B) {
			a := setup(b, Default()).start(b)
			var n atomic.Int64
			b.SetParallelism(64)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := one(withData(kilobyte))
					if keyed {
						r.IdempotencyKey = strconv.FormatInt(n.Add(1), 10)
					}
					if _, err := a.Accept(b.Context(), r); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkAcceptAll(b *testing.B) {
	a := setup(b, Default()).start(b)
	reqs := make([]*Request, 0, 50)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		reqs = append(reqs, one(withData(kilobyte), withKey(strconv.Itoa(n))))
		if len(reqs) < cap(reqs) {
			continue
		}
		for _, v := range a.AcceptAll(b.Context(), reqs) {
			require.NoError(b, v.Err)
		}
		reqs = reqs[:0]
	}
}
