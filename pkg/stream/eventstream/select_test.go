package eventstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream/eventstream"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestEventsOfAnAccountAreSelectedInPagesThatAreBoundedInNumberAndBytes(t *testing.T) {
	t.Parallel()
	s, _ := open(t, natstest.Start(t), eventstream.Default())
	mine, other := postrider.NewAccountID(), postrider.NewAccountID()
	var want []uint64
	for range 7 {
		stored, err := publish(t, s, event(mine, ""))
		require.NoError(t, err)
		want = append(want, stored.Sequence)
		_, err = publish(t, s, event(other, ""))
		require.NoError(t, err)
	}
	for name, sel := range map[string]eventstream.Selection{
		"by number": {Account: mine, From: 1, Limit: 3},
		"by bytes":  {Account: mine, From: 1, Limit: 100, Bytes: 1},
		"all":       {Account: mine, From: 1, Limit: 100},
		"by time":   {Account: mine, Since: time.Now().Add(-time.Hour), Limit: 2},
	} {
		var got []uint64
		for {
			page, err := s.Select(t.Context(), sel)
			require.NoError(t, err, name)
			if len(page) == 0 {
				break
			}
			for _, each := range page {
				require.Equal(t, string(mine), each.Event.GetAccountId())
				got = append(got, each.Sequence)
			}
			sel.From = got[len(got)-1] + 1
		}
		require.Equal(t, want, got, name)
	}
	none, err := s.Select(t.Context(), eventstream.Selection{Account: mine, Since: time.Now().Add(time.Hour), Limit: 5})
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = s.Select(t.Context(), eventstream.Selection{Account: ">", Limit: 5})
	require.Error(t, err)
}
