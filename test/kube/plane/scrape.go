package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/pod"
)

// Page is what a pod shows to Prometheus, with the labels that its target has.
type Page struct {
	Pod    string
	Labels map[string]string
	Text   string
}

// Scrape asks every pod that a PodMonitor selects, once.
func (c *Cluster) Scrape(ctx context.Context) ([]Page, error) {
	var out []Page
	var errs []error
	for _, m := range c.set.PodMonitors {
		for _, d := range c.Deployments() {
			for _, p := range c.Pods(d) {
				if p.Terminating() || !m.Spec.Selector.Matches(p.Template.Metadata.Labels) {
					continue
				}
				for i := range m.Spec.PodMetricsEndpoints {
					page, err := scrape(ctx, p, &m.Spec.PodMetricsEndpoints[i])
					errs = append(errs, err)
					out = append(out, page)
				}
			}
		}
	}
	return out, errors.Join(errs...)
}

func scrape(ctx context.Context, p *pod.Pod, e *manifest.Endpoint) (Page, error) {
	page := Page{Pod: p.Name, Labels: targetLabels(p.Template.Metadata.Labels, e.Relabelings)}
	port, err := p.Template.Spec.Containers[0].Port(e.Port)
	if err != nil {
		return page, err
	}
	timeout, err := time.ParseDuration(e.ScrapeTimeout)
	if err != nil {
		return page, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.At(port)+e.Path, http.NoBody)
	if err != nil {
		return page, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return page, fmt.Errorf("scrape %s: %w", p.Name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return page, fmt.Errorf("scrape %s: %w", p.Name, err)
	}
	page.Text = string(text)
	return page, nil
}

var unfit = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// targetLabels are those that relabelings make of a pod's.
func targetLabels(pod map[string]string, relabelings []manifest.Relabeling) map[string]string {
	known := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(pod)) {
		known["__meta_kubernetes_pod_label_"+unfit.ReplaceAllString(key, "_")] = pod[key]
	}
	out := map[string]string{}
	for _, r := range relabelings {
		value := r.Replacement
		for _, source := range r.SourceLabels {
			value += known[source]
		}
		if value != "" {
			out[r.TargetLabel] = value
		}
	}
	return out
}
