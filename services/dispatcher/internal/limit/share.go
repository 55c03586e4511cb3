package limit

// Share is one holder's part of a limit on concurrency that is divided by weight: weights[i] is
// that of part i, and mine says which parts the holder has. The parts of disjoint holders add up to
// the limit at most, except that whoever holds any weight has one at least: with a limit below the
// sum of weights, each holder may add one. A holder without weight has one, too, for what reaches it
// while the parts change hands.
func Share(limit int, weights []int32, mine func(i int) bool) int {
	var total int64
	for _, w := range weights {
		total += int64(w)
	}
	if total == 0 {
		return max(1, limit)
	}
	// Each part ends where the next one begins, so rounding gives nothing away twice.
	var own, before int64
	for i, w := range weights {
		upTo := before + int64(w)
		if mine(i) {
			own += int64(limit)*upTo/total - int64(limit)*before/total
		}
		before = upTo
	}
	return int(max(1, own))
}

// ShareRate is one holder's part of a rate, as Share is of concurrency. The parts of disjoint
// holders add up to the rate; a holder without weight has what the lightest part could have.
func ShareRate(rate float64, weights []int32, mine func(i int) bool) float64 {
	var total, own int64
	for i, w := range weights {
		total += int64(w)
		if mine(i) {
			own += int64(w)
		}
	}
	if total == 0 {
		return rate
	}
	return rate * float64(max(1, own)) / float64(total)
}
