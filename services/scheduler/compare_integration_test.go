//go:build integration

package scheduler_test

import (
	"testing"
	"time"

	"github.com/postrider/postrider/test/fixture/redistest"
)

func TestWhatRedisDoesNotHaveIsNamedAndPutBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Hour)
	compareAndRepair(t, w, redisIndex(t, w, redistest.Start(t).URL))
}
