package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// metric is the sum of a metric's series on a page; -1 while there is none.
func metric(ctx context.Context, page, name string) (sum float64, err error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	found := false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") {
			continue
		}
		n, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read metrics: %w", err)
		}
		sum, found = sum+n, true
	}
	if !found {
		return -1, nil
	}
	return sum, nil
}

// parked is how many deliveries the dispatcher has put off so far: a receiver that is fast and
// always there should see none.
func (s *system) parked(ctx context.Context) (int, error) {
	page := s.metrics["postrider"]
	if page == "" {
		page = s.metrics["dispatcher"]
	}
	n, err := metric(ctx, page, "postrider_delivery_parked_total")
	return max(int(n), 0), err
}

// profiled is what profiles are fetched: by the ends of their files' names, the paths that serve them.
// Of allocations, those of the time that is asked for.
var profiled = map[string]string{"cpu": "profile", "allocs": "allocs"}

// profiles fetches profiles of the next d, which is at least a second, from every process that serves
// them.
func (s *system) profiles(ctx context.Context, dir, name string, d time.Duration) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	var first firstError
	var fetching sync.WaitGroup
	for service, page := range s.metrics {
		for kind, path := range profiled {
			url := fmt.Sprintf("%s/debug/pprof/%s?seconds=%d", strings.TrimSuffix(page, "/metrics"), path, int(d.Seconds()))
			file := filepath.Join(dir, name+"-"+service+"."+kind+".pprof")
			fetching.Go(func() { first.set(fetchProfile(ctx, url, file)) })
		}
	}
	fetching.Wait()
	return first.get()
}

func fetchProfile(ctx context.Context, url, path string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s: %s", url, resp.Status)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	return errors.Join(err, file.Close())
}
