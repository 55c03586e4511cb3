//go:build !race

package model_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/model"
)

// caught swaps each adjacent pair of a rule, and wants a fault in the world that has it.
func caught[S comparable](t *testing.T, name string, rule []string, with func([]string) model.World[S]) {
	t.Helper()
	for pair, rule := range swapped(rule) {
		t.Run(name+": "+pair, func(t *testing.T) {
			t.Parallel()
			r := model.Explore(with(rule))
			require.NotEmpty(t, r.Violation, "%d states, and no fault found", r.States)
			t.Logf("%s, after\n  %s", r.Violation, strings.Join(r.Trace, "\n  "))
		})
	}
}

func TestJobsMakeEachDeliveryAndCountExactlyWhateverDies(t *testing.T) {
	t.Parallel()
	holds(t, model.Redrive{Rule: model.RedriveRule, Crashes: 4})
	holds(t, model.Replay{Rule: model.ReplayRule, Crashes: 4})
}

func TestAnAttemptByHandEndsWhatWaitsOrLeavesItAsItWas(t *testing.T) {
	t.Parallel()
	holds(t, model.Manual{Rule: model.ManualRule, Crashes: 2, Cancels: true})
}

func TestEveryOtherOrderOfJobsIsCaught(t *testing.T) {
	t.Parallel()
	caught(t, "redrive", model.RedriveRule, func(rule []string) model.World[model.RedriveState] {
		return model.Redrive{Rule: rule, Crashes: 2}
	})
	caught(t, "replay", model.ReplayRule, func(rule []string) model.World[model.ReplayState] {
		return model.Replay{Rule: rule, Crashes: 2}
	})
}

func TestEveryOtherOrderOfAnAttemptByHandIsCaught(t *testing.T) {
	t.Parallel()
	caught(t, "manual retry", model.ManualRule, func(rule []string) model.World[model.ManualState] {
		return model.Manual{Rule: rule, Crashes: 1, Cancels: true}
	})
}
