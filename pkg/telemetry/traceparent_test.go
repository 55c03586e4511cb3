package telemetry_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/telemetry"
)

// Whatever the publisher sent, what is read of it is valid and is written back as it was.
func FuzzTraceparent(f *testing.F) {
	for _, s := range []string{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-FF", "", "00-", "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sc, ok := telemetry.ParseTraceparent(s)
		require.Equal(t, sc.IsValid(), ok)
		if !ok {
			return
		}
		again, ok := telemetry.ParseTraceparent(telemetry.FormatTraceparent(sc))
		require.True(t, ok)
		require.Equal(t, sc.TraceID(), again.TraceID())
		require.Equal(t, sc.SpanID(), again.SpanID())
		require.Equal(t, sc.IsSampled(), again.IsSampled())
		require.Equal(t, sc.IsSampled(), telemetry.Sampled(s))
	})
}
