//go:build !race

package standalone_test

// underRace: the race detector makes everything ten times as slow.
const underRace = false
