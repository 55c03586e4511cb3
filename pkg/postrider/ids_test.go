package postrider_test

import (
	"crypto/rand"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
)

func TestFreshIDsAreValidAndDiffer(t *testing.T) {
	t.Parallel()
	before := time.Now().Truncate(time.Millisecond)
	seen := map[string]bool{}
	for range 1000 {
		event := postrider.NewEventID()
		require.True(t, event.Valid())
		require.True(t, strings.HasPrefix(string(event), "evt_"))
		at, ok := event.Time()
		require.True(t, ok)
		require.False(t, at.Before(before))
		require.False(t, at.After(time.Now()))
		for _, id := range []string{string(event), string(postrider.NewAccountID()), string(postrider.NewWebhookID()), string(postrider.NewAttemptID())} {
			require.False(t, seen[id], id)
			require.NotContains(t, id, ".", "ids are tokens of subjects and part of what is signed")
			seen[id] = true
		}
	}
	require.True(t, postrider.NewAccountID().Valid())
	require.True(t, postrider.NewWebhookID().Valid())
	require.True(t, strings.HasPrefix(string(postrider.NewAttemptID()), "att_"))
}

func TestMalformedIDsAreNotValid(t *testing.T) {
	t.Parallel()
	const ulid = "01JDABCDEFGHJKMNPQRSTVWXYZ"
	require.True(t, postrider.EventID("evt_"+ulid).Valid())
	for _, id := range []string{
		"", "evt_", ulid, "evt" + ulid, "EVT_" + ulid, "acc_" + ulid, "evt_" + ulid + "0", "evt_" + ulid[1:],
		"evt_" + ulid[:25] + "U", "evt_8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "evt_evt_" + ulid, " evt_" + ulid, "evt_" + ulid + "\n",
	} {
		require.False(t, postrider.EventID(id).Valid(), id)
		_, ok := postrider.EventID(id).Time()
		require.False(t, ok, id)
	}
	require.False(t, postrider.AccountID("evt_"+ulid).Valid())
	require.False(t, postrider.WebhookID("wh_"+ulid[:25]).Valid())
	good := string(postrider.DeliveryIDFor("evt_1", "wh_1", ""))
	for _, id := range []string{"", "dlv_", good[4:], good + "a", good[:len(good)-1], strings.ToUpper(good), "dlv_" + ulid} {
		require.False(t, postrider.DeliveryID(id).Valid(), id)
	}
}

func TestADeliveryIDIsTheSameForTheSameTripleAndDiffersForOthers(t *testing.T) {
	t.Parallel()
	// Pinned: the id is stored in streams and outlives a deploy.
	require.Equal(t, pinnedDelivery, postrider.DeliveryIDFor("evt_01JDABCDEFGHJKMNPQRSTVWXYZ", "wh_01JDABCDEFGHJKMNPQRSTVWXYZ", ""))
	require.Equal(t, pinnedUUID, pinnedDelivery.UUID().String())
	require.Equal(t, "1de6b22c-2fef-861f-be73-8dbad5c52c32", postrider.DeliveryID("dlv_dxtlelbp55tb67ttrw5nlrjmgi").UUID().String(), "of an id as they were")
	for _, id := range []postrider.DeliveryID{"", "dlv_", "dlv_a", pinnedDelivery + "a"} {
		require.Equal(t, uuid.Nil, id.UUID(), id)
	}
	require.NotEqual(t, postrider.DeliveryIDFor("ab", "c", ""), postrider.DeliveryIDFor("a", "bc", ""))
	require.NotEqual(t, postrider.DeliveryIDFor("a", "b", "c"), postrider.DeliveryIDFor("a", "bc", ""))

	part := rapid.StringMatching(`[0-9:a]{0,4}`)
	rapid.Check(t, func(t *rapid.T) {
		a := [3]string{part.Draw(t, "event"), part.Draw(t, "webhook"), part.Draw(t, "replay")}
		b := [3]string{part.Draw(t, "event"), part.Draw(t, "webhook"), part.Draw(t, "replay")}
		x := postrider.DeliveryIDFor(postrider.EventID(a[0]), postrider.WebhookID(a[1]), a[2])
		y := postrider.DeliveryIDFor(postrider.EventID(b[0]), postrider.WebhookID(b[1]), b[2])
		require.Equal(t, a == b, x == y)
		require.Equal(t, a == b, x.UUID() == y.UUID())
		require.True(t, x.Valid())
		require.Equal(t, uuid.Version(8), x.UUID().Version())
		require.Equal(t, uuid.RFC4122, x.UUID().Variant())
		require.Equal(t, x, postrider.DeliveryIDOf(x.UUID()))
	})
}

// Where ids are sorted, those of one time lie together: a log of millions grows at one place of an index.
func TestADeliveryIDBeginsWithTheTimeOfItsEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Int64Range(0, 1<<48-1).Draw(t, "milliseconds")
		event := postrider.EventIDOf(ulid.MustNew(uint64(at), rand.Reader))
		for _, replay := range []string{"", string(postrider.NewReplayID())} {
			u := postrider.DeliveryIDFor(event, postrider.NewWebhookID(), replay).UUID()
			require.EqualValues(t, at, binary.BigEndian.Uint64(append([]byte{0, 0}, u[:6]...)))
		}
	})
}

func TestWebhooksSpreadOverPartitionsAndShards(t *testing.T) {
	t.Parallel()
	// Pinned: a webhook's deliveries stay on the shard that they were written to.
	require.Equal(t, pinnedPartition, postrider.PartitionOf("wh_01JDABCDEFGHJKMNPQRSTVWXYZ"))

	var partitions [postrider.Partitions]int
	const webhooks = 256 * 100
	for range webhooks {
		id := postrider.NewWebhookID()
		p := postrider.PartitionOf(id)
		partitions[p]++
		for _, shards := range []int{1, 4, 7, postrider.MaxShards} {
			require.Equal(t, p%shards, postrider.ShardOf(id, shards))
		}
	}
	for p, n := range partitions {
		require.InDelta(t, 100, n, 70, "partition %d", p) // seven standard deviations
	}
}

func TestEndStatesAbsorbByRank(t *testing.T) {
	t.Parallel()
	for state, want := range map[postrider.DeliveryState]struct {
		ended bool
		rank  int
	}{
		postrider.Pending:   {false, 1},
		postrider.Waiting:   {false, 1},
		postrider.Held:      {false, 1},
		postrider.Dead:      {true, 4},
		postrider.Cancelled: {true, 5},
		postrider.Delivered: {true, 6},
		"unknown":           {false, 0},
	} {
		require.Equal(t, want.ended, state.Ended(), state)
		require.Equal(t, want.rank, state.Rank(), state)
	}
}
