package rpc

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/test/fixture/clock"
	"github.com/postrider/postrider/test/fixture/logtest"

	// Registers the methods that the policy is made from.
	_ "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// A file that changes is read anew after a while; while it cannot be read the old value stands.
func TestReloaded(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Time{})
	log, records := logtest.Recorder(t)
	value, loadErr := "first", errors.New("not there")
	r := &reloaded[string]{now: c.Now, log: log, load: func() (string, error) { return value, loadErr }}
	_, err := r.get()
	require.Error(t, err, "there is no old value yet")

	expect := func(want string) {
		t.Helper()
		got, err := r.get()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	loadErr = nil
	expect("first")
	value = "second"
	expect("first")
	c.Advance(reloadAfter)
	expect("second")
	loadErr = errors.New("half written")
	c.Advance(reloadAfter)
	expect("second")
	require.Len(t, records.Find("using the old certificate"), 1)
	value, loadErr = "third", nil
	c.Advance(reloadAfter)
	expect("third")
}

// Only methods that read are repeated.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	names := repeatable()
	require.Contains(t, names, method{Service: "postrider.scheduler.v1.SchedulerService", Method: "ListRetries"})
	for _, m := range names {
		require.Regexp(t, "^(Get|List|Explain)", m.Method)
	}
}

// An id that is taken is short and can be printed on one line.
func TestValidRequestID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.String(), rapid.StringMatching(`[!-~]{1,200}`)).Draw(t, "id")
		if validRequestID(id) {
			require.Regexp(t, `^[!-~]{1,128}$`, id)
		} else {
			require.NotRegexp(t, `^[!-~]{1,128}$`, id)
		}
	})
}
