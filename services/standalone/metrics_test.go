package standalone_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// metricsPage is the list of all metrics. POSTRIDER_WRITE_DOCS=1 writes it; make docs does so.
const metricsPage = "../../docs/metrics.md"

const metricsIntro = `# Metrics

Every process shows its own at ` + "`/metrics`" + ` of the metrics port (9464), with exemplars where the scrape asks for
OpenMetrics. Labels are bounded: outcomes, reasons, classes of accounts (` + "`free`, `standard`, `premium`, `internal`" + `),
streams and shards; never an account, a webhook, an id or a URL. What several processes see alike
(` + "`postrider_ledger_*`, `postrider_webhooks`, `postrider_retry_*`, `postrider_backlog_*` and `postrider_stream_*`" + `) is for max, all else
for sum. Besides these there are ` + "`rpc_server_call_duration_seconds`, `rpc_client_call_duration_seconds`, `http_server_request_duration_seconds`" + `,
and those of Go and of the process. A counter appears when it has counted for the first time.

This page is made from the metrics that the services register: ` + "`make docs`" + `.

| metric | type | what it is |
|---|---|---|
`

// The page names every metric that the services have made, as it is, and none that they have not.
func TestTheMetricsPageIsTrue(t *testing.T) {
	t.Parallel()
	svc, _ := start(t, config(t.TempDir()))
	var page strings.Builder
	page.WriteString(metricsIntro)
	for _, i := range svc.Instruments() {
		require.True(t, strings.HasPrefix(i.Name, "postrider_"), i.Name)
		require.NotEmpty(t, i.Help, i.Name)
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", i.Name, i.Kind, i.Help)
	}
	if os.Getenv("POSTRIDER_WRITE_DOCS") != "" {
		require.NoError(t, os.WriteFile(metricsPage, []byte(page.String()), 0o644))
	}
	have, err := os.ReadFile(metricsPage)
	require.NoError(t, err)
	require.Equal(t, page.String(), string(have), "docs/metrics.md is stale: run make docs")
}
