package process

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// A collector that takes connections and says nothing does not hold a process that stops.
func TestSpansThatCannotBeSentAreGivenUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a bind does not wait
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	cfg := telemetry.Default()
	cfg.OTLPEndpoint, cfg.TraceRatio = "http://"+l.Addr().String(), 1
	tel, err := telemetry.New(cfg, "process")
	require.NoError(t, err)
	_, span := tel.Tracer("process").Start(t.Context(), "last")
	span.End()
	log, records := logtest.Recorder(t)
	flush(t.Context(), tel, log)
	require.Len(t, records.Find("the last spans were not sent"), 1)
}
