//go:build !linux && !darwin

package standalone

// freeBytes cannot tell.
func freeBytes(string) (int64, bool) { return 0, false }
