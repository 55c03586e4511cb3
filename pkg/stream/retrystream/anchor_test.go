package retrystream_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/retrystream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

// Each release is consumed and acknowledged before the next, so that the stream's last file would be
// empty each time; a record that stays keeps all files.
func TestReleasesAtLeisureLeaveFewFiles(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	c := connect(t, server, nil)
	s := ensure(t, c, retrystream.Default())
	out := dues(t, s)
	const large, small = 20, 300
	var records []retrystream.Record
	for i := range 1 + small + large {
		r := retryOf(fmt.Sprintf("dlv_%d", i), 1, later())
		if i > small {
			r.Delivery.Data = make([]byte, 500_000) // together more than the server puts into one file
		}
		sequence, err := put(t, s, r)
		require.NoError(t, err)
		records = append(records, retrystream.Record{Sequence: sequence, Retry: r})
	}
	for i := len(records) - 1; i > 0; i-- {
		require.NoError(t, release(t, s, records[i]))
		next(t, out)
		require.Eventually(t, func() bool {
			st, err := c.JetStream().Stream(t.Context(), "RETRIES_0")
			return err == nil && st.CachedInfo().State.Msgs <= uint64(i+1) // and the anchor
		}, patience, time.Millisecond, "what was due is acknowledged")
	}
	files, err := filepath.Glob(filepath.Join(server.Server().JetStreamConfig().StoreDir, "$G", "streams", "RETRIES_0", "msgs", "*.blk"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	require.Less(t, len(files), small/2)

	waiting, err := s.Count(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 1, waiting, "the anchor is no record")
	counts, err := retrystream.CountByAccount(t.Context(), c, 0)
	require.NoError(t, err)
	require.Equal(t, map[postrider.AccountID]retrystream.Counts{"acc_1": {Waiting: 1}}, counts)
	require.NoError(t, retrystream.Walk(t.Context(), c, 0, func(s retrystream.Standing) error {
		require.Equal(t, "dlv_0", s.Retry.GetDelivery().GetId())
		return nil
	}))
}
