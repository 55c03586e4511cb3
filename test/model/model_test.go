//go:build !race

// There is one goroutine in an exploration, and the race detector makes it ten times as long.
package model_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/model"
)

// swapped are the rules that differ from one by two adjacent steps, named by these.
func swapped(rule []string) map[string][]string {
	out := make(map[string][]string, len(rule)-1)
	for i := range len(rule) - 1 {
		r := slices.Clone(rule)
		r[i], r[i+1] = r[i+1], r[i]
		out[rule[i]+", "+rule[i+1]] = r
	}
	return out
}

func holds[S comparable](t *testing.T, w model.World[S]) {
	t.Helper()
	r := model.Explore(w)
	t.Logf("%d states, %d ends", r.States, r.Ends)
	require.Empty(t, r.Violation, "after\n  %s", strings.Join(r.Trace, "\n  "))
	require.Positive(t, r.Ends)
}

func TestAnEventIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	t.Run("with crashes", func(t *testing.T) {
		t.Parallel()
		holds(t, model.Accept{Rule: model.AcceptRule, Crashes: 2})
	})
	t.Run("with crashes and flushes", func(t *testing.T) {
		t.Parallel()
		holds(t, model.Accept{Rule: model.AcceptRule, Crashes: 2, Flushes: 2})
	})
}

func TestEveryOtherOrderOfAcceptingIsCaught(t *testing.T) {
	t.Parallel()
	for name, rule := range swapped(model.AcceptRule) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := model.Explore(model.Accept{Rule: rule, Crashes: 1})
			require.NotEmpty(t, r.Violation, "%d states, and no fault found", r.States)
			t.Logf("%s, after\n  %s", r.Violation, strings.Join(r.Trace, "\n  "))
		})
	}
}

// worlds are small ones in which every promise holds. Where no record fires by itself, retries have
// to be punctual: it takes two crashes, of a scheduler between record and index and of the dispatcher
// that would ask again, until only the record itself, or the sweep, brings the delivery on.
var worlds = []struct {
	name string
	model.Deliver
}{
	{"a crash, and no record fires by itself", model.Deliver{Crashes: 1}},
	{"a flush, and the index is rebuilt", model.Deliver{Flushes: 1, Rebuild: true}},
	{"a cancel", model.Deliver{Cancels: true}},
	{"a flush, and no scheduler rebuilds the index", model.Deliver{Crashes: 1, Flushes: 1, Fires: true}},
	{"crashes, and records that fire", model.Deliver{Crashes: 2, Fires: true}},
	{"a cancel, a crash and a record that fires", model.Deliver{Crashes: 1, Flushes: 1, Fires: true, Cancels: true}},
	{"everything at once", model.Deliver{Crashes: 2, Flushes: 1, Ends: 1, Fires: true, Rebuild: true}},
}

func TestADeliveryEndsWhateverStrikes(t *testing.T) {
	t.Parallel()
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			w.Rules = model.RightRules()
			holds(t, w.Deliver)
		})
	}
}

// unordered are the pairs of steps that no order can break, and why.
var unordered = map[string]string{
	"route: deliver, journal": "the event is acked after both",
	"attempt: record, index":  "the member of the index is the sequence that the record got",
	"release: claim, publish": "what is published is what was claimed",
	"cancel: read, journal":   "what is journalled is what was read",
}

// order is a rule of a set, and how another takes its place in it.
type order[R any] struct {
	rule []string
	set  func(*R, []string)
}

// named is a world that is given its rules.
type named[R any, S comparable] struct {
	name string
	with func(R) model.World[S]
}

// catchAll swaps each adjacent pair of steps of each rule, and wants a fault in one of the worlds.
func catchAll[R any, S comparable](t *testing.T, right R, worlds []named[R, S], orders map[string]order[R]) {
	t.Helper()
	for name, o := range orders {
		for pair, rule := range swapped(o.rule) {
			if unordered[name+": "+pair] != "" {
				continue
			}
			t.Run(name+": "+pair, func(t *testing.T) {
				t.Parallel()
				rules := right
				o.set(&rules, rule)
				for _, w := range worlds {
					if r := model.Explore(w.with(rules)); r.Violation != "" {
						t.Logf("with %s: %s, after\n  %s", w.name, r.Violation, strings.Join(r.Trace, "\n  "))
						return
					}
				}
				t.Fatal("no world shows a fault")
			})
		}
	}
}

func TestEveryOtherOrderOfADeliveryIsCaught(t *testing.T) {
	t.Parallel()
	right := model.RightRules()
	list := make([]named[model.Rules, model.DeliverState], 0, len(worlds))
	for _, w := range worlds {
		list = append(list, named[model.Rules, model.DeliverState]{w.name, func(r model.Rules) model.World[model.DeliverState] {
			w.Rules = r
			return w.Deliver
		}})
	}
	catchAll(t, right, list, map[string]order[model.Rules]{
		"route":   {right.Route, func(r *model.Rules, rule []string) { r.Route = rule }},
		"attempt": {right.Attempt, func(r *model.Rules, rule []string) { r.Attempt = rule }},
		"release": {right.Release, func(r *model.Rules, rule []string) { r.Release = rule }},
		"cancel":  {right.Cancel, func(r *model.Rules, rule []string) { r.Cancel = rule }},
	})
}
