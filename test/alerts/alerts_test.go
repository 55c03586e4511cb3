package alerts_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/alerts"
)

const root = "../.."

var language = parser.NewParser(parser.Options{})

// files are the rule files.
func files(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(root + "/deploy/prometheus/rules/*.yml")
	require.NoError(t, err)
	require.Len(t, list, 3)
	return list
}

// rules are all rules.
func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	var all []rulefmt.Rule
	for _, path := range files(t) {
		groups, errs := rulefmt.ParseFile(path, false, model.UTF8Validation, language, slog.New(slog.DiscardHandler))
		require.Empty(t, errs, path)
		for _, g := range groups.Groups {
			all = append(all, g.Rules...)
		}
	}
	return all
}

// row is a line of docs/metrics.md, which a test of the services holds to what they register.
var row = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (counter|gauge|histogram) \\|")

// known are the series that there can be: of our metrics, of the libraries' and of the exporters'.
func known(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile(root + "/docs/metrics.md")
	require.NoError(t, err)
	out := map[string]bool{}
	add := func(kind, name string) {
		out[name] = kind != "histogram"
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			out[name+suffix] = kind == "histogram"
		}
	}
	found := row.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(found), 60, "docs/metrics.md has no table")
	for _, m := range found {
		add(m[2], m[1])
	}
	for _, name := range []string{"rpc_server_call_duration_seconds", "rpc_client_call_duration_seconds", "http_server_request_duration_seconds"} {
		require.Contains(t, string(page), name)
		add("histogram", name)
	}
	// Of Prometheus itself, of client_golang, and of the exporters, by their own documentation.
	for _, name := range []string{
		"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds", "go_goroutines",
		"jetstream_stream_total_messages", "jetstream_server_total_message_bytes", "jetstream_server_max_storage",
		"redis_up", "redis_memory_used_bytes", "redis_memory_max_bytes", "kube_pod_container_status_restarts_total",
	} {
		out[name] = true
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			out[r.Record] = true
		}
	}
	return out
}

// series are the names that an expression reads.
func series(t *testing.T, expr string) []string {
	t.Helper()
	parsed, err := language.ParseExpr(expr)
	require.NoError(t, err, expr)
	names := map[string]bool{}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			names[s.Name] = true
		}
		return nil
	})
	return slices.Sorted(maps.Keys(names))
}

// Every metric that a rule names is one that a service registers.
func TestRulesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	exists := known(t)
	for _, r := range rules(t) {
		for _, name := range series(t, r.Expr) {
			require.True(t, exists[name], "%s%s reads %s, which nobody has", r.Alert, r.Record, name)
		}
	}
}

// Every alert says what it means, how urgent it is, and leads to a runbook and a dashboard that are
// there; every runbook is some alert's.
func TestAlertsLeadSomewhere(t *testing.T) {
	t.Parallel()
	boards := map[string]bool{}
	for _, d := range alerts.Dashboards() {
		boards["/d/postrider-"+d.Name] = true
	}
	const prefix = "https://github.com/postrider/postrider/blob/main/"
	used, seen := map[string]bool{}, map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		require.False(t, seen[r.Alert], "%s is there twice", r.Alert)
		seen[r.Alert] = true
		require.Contains(t, []string{"page", "ticket", "none"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.NotEmpty(t, r.Annotations["description"], r.Alert)
		require.True(t, boards[r.Annotations["dashboard_url"]], "%s: %s", r.Alert, r.Annotations["dashboard_url"])
		path, ok := strings.CutPrefix(r.Annotations["runbook_url"], prefix)
		require.True(t, ok, r.Alert)
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err, r.Alert)
		require.Contains(t, string(text), "`"+r.Alert+"`", "%s does not name %s", path, r.Alert)
		for _, part := range []string{"## What it means", "## First checks", "## What to do", "## When it is over"} {
			require.Contains(t, string(text), part, path)
		}
		used[filepath.Base(path)] = true
	}
	all, err := filepath.Glob(root + "/docs/runbooks/*.md")
	require.NoError(t, err)
	for _, path := range all {
		if name := filepath.Base(path); name != "README.md" {
			require.True(t, used[name], "%s is no alert's", name)
		}
	}
}

// Dashboards' files are what the program writes, and every panel asks for metrics that exist.
func TestDashboards(t *testing.T) {
	t.Parallel()
	exists := known(t)
	variables := strings.NewReplacer("$__rate_interval", "1m")
	for _, d := range alerts.Dashboards() {
		want, err := d.JSON()
		require.NoError(t, err)
		have, err := os.ReadFile(root + "/deploy/grafana/dashboards/" + d.Name + ".json")
		require.NoError(t, err)
		require.Equal(t, string(want), string(have), "%s.json is stale: run make docs/dashboards", d.Name)
		require.True(t, json.Valid(have))
		titles := map[string]bool{}
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				require.False(t, titles[r.Title+p.Title], "%s has two panels %q", d.Name, p.Title)
				titles[r.Title+p.Title] = true
				require.NotEmpty(t, p.Queries, p.Title)
				for _, q := range p.Queries {
					for _, name := range series(t, variables.Replace(q.Expr)) {
						require.True(t, exists[name], "%s: %q asks for %s, which nobody has", d.Name, p.Title, name)
					}
				}
			}
		}
	}
}

// A label that a query selects or groups by, where it is ours, is one that metrics have.
func TestQueriesUseBoundedLabels(t *testing.T) {
	t.Parallel()
	for _, r := range rules(t) {
		for _, forbidden := range []string{"account_id", "webhook_id", "url", "tenant", "endpoint"} {
			require.NotRegexp(t, `\b`+forbidden+`\b\s*[=!]`, r.Expr)
		}
	}
}
