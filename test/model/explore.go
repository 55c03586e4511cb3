// Package model is the order rules of Postrider as a state model that is explored to its end: every
// interleaving of its processes with crashes, redelivery, a flushed Redis and records that fire by
// themselves, within small bounds. A rule is a list of steps, so a test can swap two of them and see
// that the model notices: a model that finds no fault in a wrong order says nothing about the right
// one.
package model

import "fmt"

// Move is one step that a world can make, by one of its processes or by a fault.
type Move[S comparable] struct {
	Name string
	To   S
}

// World is what is explored. S holds everything that a next step depends on.
type World[S comparable] interface {
	// Start is where it begins.
	Start() S
	// Moves are the steps that the processes can make.
	Moves(S) []Move[S]
	// Faults are those that may strike. A state without Moves is an end, whatever may strike.
	Faults(S) []Move[S]
	// Broken says what must never be, and is.
	Broken(S) string
	// Unfinished says what must be in the end, and is not.
	Unfinished(S) string
}

// Report is what an exploration came to.
type Report struct {
	States, Ends int
	// Violation is empty if none was found; else Trace leads to it.
	Violation string
	Trace     []string
}

// maxStates bounds an exploration; one that reaches it says nothing.
const maxStates = 5_000_000

// Explore visits every state that can be reached, breadth first, so that a trace is a shortest one.
func Explore[S comparable](w World[S]) Report {
	type from struct {
		state S
		move  string
	}
	start := w.Start()
	seen := map[S]from{start: {}}
	queue := []S{start}
	report := Report{}
	trace := func(s S) []string {
		var back []string
		for s != start {
			f := seen[s]
			back = append(back, f.move)
			s = f.state
		}
		for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
			back[i], back[j] = back[j], back[i]
		}
		return back
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if broken := w.Broken(s); broken != "" {
			report.States, report.Violation, report.Trace = len(seen), broken, trace(s)
			return report
		}
		moves := w.Moves(s)
		if len(moves) == 0 {
			report.Ends++
			if unfinished := w.Unfinished(s); unfinished != "" {
				report.States, report.Violation, report.Trace = len(seen), "in the end "+unfinished, trace(s)
				return report
			}
		}
		for _, m := range append(moves, w.Faults(s)...) {
			if _, known := seen[m.To]; known {
				continue
			}
			if len(seen) == maxStates {
				panic(fmt.Sprintf("more than %d states", maxStates))
			}
			seen[m.To] = from{s, m.Name}
			queue = append(queue, m.To)
		}
	}
	report.States = len(seen)
	return report
}
