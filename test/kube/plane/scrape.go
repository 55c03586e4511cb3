package plane

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/pod"
)

// Page is what a target shows to Prometheus, with the labels that the target has. Err is why it
// showed nothing.
type Page struct {
	Pod    string
	Labels map[string]string
	Text   string
	Err    error
}

// Scrape asks every pod that a PodMonitor selects, once and all at the same time: also one that was
// killed and has not been replaced, which is still a target.
func (c *Cluster) Scrape(ctx context.Context) []Page {
	var out []*Page
	var wg sync.WaitGroup
	for _, m := range c.set.PodMonitors {
		for _, d := range c.Deployments() {
			for _, p := range c.Pods(d) {
				if !m.Spec.Selector.Matches(p.Template.Metadata.Labels) {
					continue
				}
				for i := range m.Spec.PodMetricsEndpoints {
					page := &Page{Pod: p.Name}
					out = append(out, page)
					wg.Go(func() { page.Err = page.scrape(ctx, p, &m.Spec.PodMetricsEndpoints[i]) })
				}
			}
		}
	}
	wg.Wait()
	pages := make([]Page, len(out))
	for i, page := range out {
		pages[i] = *page
	}
	return pages
}

func (page *Page) scrape(ctx context.Context, p *pod.Pod, e *manifest.Endpoint) error {
	page.Labels = targetLabels(p.Template.Metadata.Labels, e.Relabelings)
	port, err := p.Template.Spec.Containers[0].Port(e.Port)
	if err != nil {
		return err
	}
	page.Labels["instance"] = p.At(port) // unless it is relabeled, and it is not
	timeout, err := time.ParseDuration(e.ScrapeTimeout)
	if err != nil {
		return err
	}
	page.Text, err = Get(ctx, "http://"+p.At(port)+e.Path, timeout)
	return err
}

// client keeps no connection: a target that is gone is asked as one that never was there.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Get is the body of what answers at a URL within a time.
func Get(ctx context.Context, url string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(text), err
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
		value := []string{r.Replacement}
		for _, source := range r.SourceLabels {
			value = append(value, known[source])
		}
		if text := strings.Join(value, ""); text != "" {
			out[r.TargetLabel] = text
		}
	}
	return out
}
