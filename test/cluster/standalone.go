package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"

	"github.com/postrider/postrider/test/fixture/ports"
)

// Standalone is the one-process form of Postrider.
type Standalone struct {
	*Process
	AdminKey string
	GRPC     string // host:port
	HTTP     string // base URL

	reserved *ports.Block
}

// StartStandalone starts `postrider up` with its state in dir and returns when it is ready.
func StartStandalone(ctx context.Context, bin, dir string, extra map[string]string) (*Standalone, error) {
	block, err := ports.Reserve()
	if err != nil {
		return nil, err
	}
	at := func(offset int) string { return "127.0.0.1:" + strconv.Itoa(block.First+offset) }
	s := &Standalone{reserved: block, AdminKey: "admin-key-of-the-standalone-test-0123456789", GRPC: at(grpcPort), HTTP: "http://" + at(httpPort)}
	env := map[string]string{
		"POSTRIDER_DATA_DIR":       filepath.Join(dir, "var"),
		"POSTRIDER_GRPC_LISTEN":    at(grpcPort),
		"POSTRIDER_HTTP_LISTEN":    at(httpPort),
		"POSTRIDER_HEALTH_LISTEN":  at(healthPort),
		"POSTRIDER_METRICS_LISTEN": at(metricsPort),
		"POSTRIDER_ADMIN_KEY":      s.AdminKey,
	}
	maps.Copy(env, extra)
	list := os.Environ()
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	s.Process = &Process{
		Name: "postrider", Service: "standalone", Path: filepath.Join(bin, "postrider"), Args: []string{"up"}, Env: list,
		port: block.First, log: filepath.Join(dir, "postrider.log"),
		ready: httpReady(fmt.Sprintf("http://%s/readyz", at(metricsPort))),
	}
	if err := s.Start(); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if err := s.WaitReady(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// MetricsURL is the process's metrics page.
func (s *Standalone) MetricsURL() string {
	return "http://127.0.0.1:" + strconv.Itoa(s.port+metricsPort) + "/metrics"
}

// Stop asks the process to stop, and ends it if it does not within 20 s.
func (s *Standalone) Stop() error {
	s.Terminate()
	err := s.waitOrKill(stopGrace)
	s.reserved.Release()
	return err
}
