//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/test/cluster"
)

// smallDisk mounts a file system of a fixed size, in memory, until the test ends.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes))
	require.NoError(t, err, "this drill mounts a small file system, which only root may")
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fill takes every byte that is left of a disk, and returns how to give them back.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "ballast")
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = io.Copy(f, zeros{})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	return func() {
		t.Helper()
		require.NoError(t, os.Remove(path))
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestDiskFull takes the last byte of the disk below the NATS server in the midst of a burst. A
// server whose write failed for want of room goes on failing when there is some, so the operator
// makes room and then starts it again.
func TestDiskFull(t *testing.T) {
	d := roll(t)
	disk := smallDisk(t, 256)
	c := startClusterOf(t, cluster.Options{NATSStore: func(server string) string { return filepath.Join(disk, server) }})
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: natsLoad.batch}
	r := &row{Fault: "the disk below NATS is full"}

	var free func()
	var probes int
	underLoad(t, d, w, s, r, p, natsLoad, blow{
		name:   "the disk is full",
		strike: func(context.Context) { free = fill(t, disk) },
		down:   d.between(2*time.Second, 10*time.Second),
		mend: func(ctx context.Context) {
			var refusal error
			probes, refusal = untilRefused(ctx, t, w)
			code := fault.Status(refusal).Code()
			t.Logf("refused: %v", refusal)
			require.True(t, code == codes.Unavailable || code == codes.ResourceExhausted, "%v", refusal)
			free()
			// One that cannot end in order any more is killed, as by whatever supervises it.
			if err := c.Of("nats")[0].Stop(stopPatience); err != nil {
				t.Log(err)
			}
			start(t, c.Of("nats")[0])(ctx)
		},
	})
	// What was refused is accepted now.
	require.NoError(t, p.publish(t.Context(), probeFrom, probeFrom+probes))
	conclude(t, w, s, r, p)
}

// TestSlowDisk stands in for a disk that stalls: the server syncs before it answers, and is stopped
// in its tracks again and again, as it would be by a sync that hangs.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	d := roll(t)
	c := startClusterOf(t, cluster.Options{NATSSync: "always"})
	w := newWorld(t, c, 4, killHooks(time.Now()), inTurn(killEvents()))
	s := watchStreams(t, c)
	p := &producer{w: w, batch: natsLoad.batch}
	r := &row{Fault: "a slow disk: syncs always, the server stalls 20 times"}

	server := c.Of("nats")[0]
	size := natsLoad
	size.burst = 1000
	underLoad(t, d, w, s, r, p, size, blow{
		name: "the server stalls for up to 3 s, 20 times",
		strike: func(ctx context.Context) {
			for range 20 {
				server.Pause()
				stalled := pause(ctx, d.between(200*time.Millisecond, 3*time.Second))
				server.Continue()
				require.True(t, stalled && pause(ctx, d.between(50*time.Millisecond, time.Second)))
			}
		},
		mend: func(context.Context) {},
	})
	conclude(t, w, s, r, p)
}
