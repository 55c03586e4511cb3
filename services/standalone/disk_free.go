//go:build linux || darwin

package standalone

import "syscall"

// freeBytes is how much this user may still write where a folder is; false if that cannot be told.
func freeBytes(dir string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true //nolint:gosec,unconvert // the types differ from one system to the next
}
