package retryset

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEpoch(t *testing.T) {
	t.Parallel()
	known := epoch{generation: 100, count: 50}
	tests := map[string]struct {
		found epoch
		sound bool
		lost  bool
		after epoch
	}{
		"the next claim finds the next count":                {epoch{100, 51}, true, false, epoch{100, 51}},
		"other replicas move the count on":                   {epoch{100, 90}, true, false, epoch{100, 90}},
		"a rebuild by another replica is believed":           {epoch{101, 1}, true, false, epoch{101, 1}},
		"a flushed slot has no generation":                   {epoch{0, 1}, true, true, known},
		"a flushed slot has none, whatever its count":        {epoch{0, 51}, true, true, known},
		"a count that was seen before is an older state":     {epoch{100, 50}, true, true, known},
		"a lower count is an older state":                    {epoch{100, 7}, true, true, known},
		"an earlier generation is a still older state":       {epoch{99, 51}, true, true, known},
		"an earlier generation is older, whatever its count": {epoch{99, 700}, true, true, known},
		"another process of the server may lack the last":    {epoch{100, 51}, false, true, known},
		"nor is a rebuild believed that another process saw": {epoch{101, 1}, false, true, epoch{101, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := slotState{epoch: known}
			require.Equal(t, test.lost, s.observe(known, test.found, test.sound))
			require.Equal(t, test.lost, s.needsRebuild())
			require.Equal(t, test.after, s.epoch)
		})
	}
}

func TestEpochStaysLostUntilThereIsALaterGeneration(t *testing.T) {
	t.Parallel()
	s := slotState{epoch: epoch{100, 50}}
	s.observe(s.epoch, epoch{100, 20}, true)
	require.True(t, s.needsRebuild())
	require.False(t, s.observe(s.epoch, epoch{0, 1}, true), "a loss is told once")
	s.observe(s.epoch, epoch{100, 51}, true)
	require.True(t, s.needsRebuild(), "the count has caught up, the members have not")
	s.observe(s.epoch, epoch{101, 60}, true)
	require.False(t, s.needsRebuild())
}

func TestEpochAnswersOfConcurrentClaimsMayBeReadInAnyOrder(t *testing.T) {
	t.Parallel()
	t.Run("a lower count of a claim that was sent earlier is no loss", func(t *testing.T) {
		t.Parallel()
		s := slotState{epoch: epoch{100, 50}}
		sent := s.epoch
		s.observe(sent, epoch{100, 52}, true)
		s.observe(sent, epoch{100, 51}, true)
		require.False(t, s.needsRebuild())
		require.Equal(t, epoch{100, 52}, s.epoch)
	})
	t.Run("a claim that was sent before a rebuild ended does not undo it", func(t *testing.T) {
		t.Parallel()
		s := slotState{epoch: epoch{100, 50}, lost: true}
		sent := s.epoch
		s.rebuilt(epoch{101, 3}, 0)
		s.observe(sent, epoch{0, 2}, true)
		require.False(t, s.needsRebuild())
	})
}

func TestEpochDoubtsAreAnsweredByTheRebuildThatBeganAfterThem(t *testing.T) {
	t.Parallel()
	s := slotState{epoch: epoch{100, 50}, doubts: 2}
	s.observe(s.epoch, epoch{101, 1}, true)
	require.True(t, s.needsRebuild(), "another replica's rebuild may have begun before")
	s.doubts++ // after the rebuild began with two
	s.rebuilt(epoch{102, 5}, 2)
	require.True(t, s.needsRebuild())
	s.rebuilt(epoch{103, 6}, 1)
	require.False(t, s.needsRebuild())
}

func TestEpochBeginsWithTheFirstLook(t *testing.T) {
	t.Parallel()
	var s slotState
	require.True(t, s.needsRebuild(), "nobody has looked")
	require.True(t, s.begin(100))
	require.False(t, s.begin(200))
	require.False(t, s.observe(s.epoch, epoch{99, 7}, true), "whoever has just begun misses nothing")
	require.True(t, s.needsRebuild(), "it was rebuilt before this process began")
	s.observe(s.epoch, epoch{101, 8}, true)
	require.False(t, s.needsRebuild())
}
