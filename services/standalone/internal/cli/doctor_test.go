package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/natstest"
)

// statuses are those of a report, by check; the worst of each.
func statuses(t *testing.T, report map[string]any) map[string]string {
	t.Helper()
	out := make(map[string]string)
	rank := map[string]int{"": 0, "ok": 1, "warning": 2, "failure": 3}
	for _, f := range list(t, report, "findings") {
		check, _ := f["check"].(string)
		status, _ := f["status"].(string)
		if rank[status] > rank[out[check]] {
			out[check] = status
		}
	}
	return out
}

func TestTheDoctorLooksAtTheOneProcess(t *testing.T) {
	t.Parallel()
	s := running(t)
	report := s.json(t, "doctor")
	got := statuses(t, report)
	require.Equal(t, "ok", got["data folder"])
	require.Equal(t, "ok", got["streams"])
	require.Equal(t, "ok", got["delivery log"])
	require.Equal(t, "warning", got["egress"]) // which development opens
	require.Contains(t, s.ok(t, "doctor"), "in use by process")
	// By name, too, whatever the environment says about NATS.
	elsewhere := &shell{env: map[string]string{"POSTRIDER_NATS_URL": "nats://127.0.0.1:1"}}
	require.Equal(t, got, statuses(t, elsewhere.json(t, "doctor", "--data-dir", s.env["POSTRIDER_DATA_DIR"])))
}

func TestTheDoctorLooksAtWhatServicesAreTold(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := (&shell{env: map[string]string{"POSTRIDER_NATS_URL": server.URL}}).with("POSTRIDER_API_LOG_FILE", t.TempDir()+"/none.db")
	r := s.fails(t, exitFailure, "checks failed", "doctor")
	require.Contains(t, r.out, "EVENTS is missing")
	require.Contains(t, r.out, "to mend it: start a service")
	require.Contains(t, r.out, "set POSTRIDER_REDIS_URL")

	r = s.with("POSTRIDER_STREAMS_REPLICAS", "2").with("POSTRIDER_DISPATCHER_EGRESS_ALLOW_NETWORKS", "everything").
		fails(t, exitFailure, "1 of 1 checks failed", "doctor")
	require.Contains(t, r.out, "replicas is 2")
	require.Contains(t, r.out, "POSTRIDER_DISPATCHER_EGRESS_ALLOW_NETWORKS")

	s.with("POSTRIDER_API_LOG_URL", "file:/none/such").fails(t, exitFailure, "1 of 1 checks failed", "doctor")
	s.fails(t, exitUsage, "unknown", "doctor", "--nonsense")
	s.fails(t, exitUsage, "unknown", "doctor", "something")
}
