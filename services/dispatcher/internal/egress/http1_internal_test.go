package egress

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What was given up stays so, although the next step sets a deadline of its own.
func TestADeadlineDoesNotOutliveAnExchangeThatWasGivenUp(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()   //nolint:errcheck // a pipe
	defer theirs.Close() //nolint:errcheck // a pipe
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newConn("http://a:80", ours)
	require.NoError(t, c.SetDeadline(longAgo)) // as whoever gave it up did
	c.header = -1
	c.readWithin(ctx, time.Hour, time.Now().Add(time.Hour))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
