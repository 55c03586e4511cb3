//go:build !race

package model_test

import (
	"testing"

	"github.com/postrider/postrider/test/model"
)

// holdWorlds are small ones in which every promise of a pause and a resume holds. Where no record
// fires by itself, nothing may be left to the hour after which a held one would.
var holdWorlds = []struct {
	name string
	model.Hold
}{
	{"a pause", model.Hold{Switches: 1, Failures: 1}},
	{"a pause and a resume", model.Hold{Switches: 2, Failures: 1}},
	{"a pause, a resume and a pause", model.Hold{Switches: 3, Failures: 1}},
	{"a pause, a resume and crashes", model.Hold{Switches: 2, Failures: 1, Crashes: 2}},
	{"a pause, a resume, a pause and a crash", model.Hold{Switches: 3, Failures: 1, Crashes: 1}},
	{"a pause, a resume, a crash and records that fire", model.Hold{Switches: 2, Failures: 1, Crashes: 1, Fires: true}},
}

func TestAPauseAndAResumeStrandNothingWhateverStrikes(t *testing.T) {
	t.Parallel()
	for _, w := range holdWorlds {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.HoldRules = model.RightHoldRules()
			holds(t, w.Hold)
		})
	}
}

func TestEveryOtherOrderOfHoldingIsCaught(t *testing.T) {
	t.Parallel()
	right := model.RightHoldRules()
	worlds := make([]named[model.HoldRules, model.HoldState], 0, len(holdWorlds))
	for _, w := range holdWorlds {
		worlds = append(worlds, named[model.HoldRules, model.HoldState]{w.name, func(r model.HoldRules) model.World[model.HoldState] {
			w.HoldRules = r
			return w.Hold
		}})
	}
	catchAll(t, right, worlds, map[string]order[model.HoldRules]{
		"switch": {right.Switch, func(r *model.HoldRules, rule []string) { r.Switch = rule }},
		"park":   {right.Park, func(r *model.HoldRules, rule []string) { r.Park = rule }},
		"hold":   {right.Hold, func(r *model.HoldRules, rule []string) { r.Hold = rule }},
		"drain":  {right.Drain, func(r *model.HoldRules, rule []string) { r.Drain = rule }},
	})
}
