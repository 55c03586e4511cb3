package fair

import "slices"

// Level is the most that each of those who demand something may have, so that together they have the
// capacity: the largest level for which the sum of min(demand, level) is at most the capacity. Whoever
// demands no more than the level gets all of it; nobody has less than an equal part of the capacity
// without wanting less. If the demands fit, the level is the capacity. It sorts the demands.
func Level(demands []float64, capacity float64) float64 {
	slices.Sort(demands)
	left := capacity
	for i, d := range demands {
		equal := left / float64(len(demands)-i)
		if d >= equal {
			return equal
		}
		left -= d
	}
	return capacity
}
