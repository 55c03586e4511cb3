package auditstream_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/auditstream"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func open(t *testing.T) *auditstream.Stream {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := auditstream.Ensure(t.Context(), c, auditstream.Default())
	require.NoError(t, err)
	return s
}

// TestEntriesAreReadBackwardsOverAllWindows has one account with few entries among many of another, so
// that its pages reach over several windows.
func TestEntriesAreReadBackwardsOverAllWindows(t *testing.T) {
	t.Parallel()
	s := open(t)
	var want []string
	for i := range 1500 {
		account := "acc_busy"
		if i%250 == 0 {
			account = "acc_quiet"
			want = append([]string{strconv.Itoa(i)}, want...)
		}
		require.NoError(t, s.Append(t.Context(), fmt.Sprint("id", i), &postriderv1.AuditEntry{AccountId: account, Method: strconv.Itoa(i)}))
	}
	var got []string
	before := uint64(0)
	for {
		page, err := s.List(t.Context(), "acc_quiet", before, 2)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			got = append(got, e.GetMethod())
			before = e.GetSequence()
		}
	}
	require.Equal(t, want, got)
	none, err := s.List(t.Context(), "acc_none", 0, 10)
	require.NoError(t, err)
	require.Empty(t, none)
	odd, err := s.List(t.Context(), "acc.*", 0, 10)
	require.NoError(t, err)
	require.Empty(t, odd)
}

func TestARepeatIsOneEntry(t *testing.T) {
	t.Parallel()
	s := open(t)
	for range 2 {
		require.NoError(t, s.Append(t.Context(), "same", &postriderv1.AuditEntry{Method: "A"}))
	}
	page, err := s.List(t.Context(), "", 0, 10)
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, "A", page[0].GetMethod())
}
