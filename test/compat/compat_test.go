//go:build e2e

// Package compat holds Postrider to the checks of checks.txt: each is a subtest whose name begins
// with its number. One process serves all of them; each test has accounts of its own.
package compat

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/test/cluster"
	"github.com/postrider/postrider/test/system"
)

// running is the process that TestMain started.
var running *cluster.Standalone

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "compat")
	if err == nil {
		err = run(m, dir)
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		panic(err)
	}
}

// run runs the tests beside a process.
func run(m *testing.M, dir string) error {
	env, err := environment(dir)
	if err != nil {
		return err
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		return err
	}
	if running, err = cluster.StartStandalone(context.Background(), bin, dir, env); err != nil {
		return fmt.Errorf("start postrider, which make builds: %w", err)
	}
	if m.Run() != 0 {
		fmt.Fprintf(os.Stderr, "---- postrider\n%s\n", running.Tail(60))
	}
	return running.Stop()
}

// environment compresses schedules, and has the process trust the certificates of receivertest's
// TLS receivers.
func environment(dir string) (map[string]string, error) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := filepath.Join(dir, "roots.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(roots, block, 0o600); err != nil {
		return nil, err
	}
	return map[string]string{
		"SSL_CERT_FILE":                         roots,
		"POSTRIDER_DISPATCHER_RETRY_TIME_SCALE": system.RetryScaleText,
	}, nil
}

// open connects a test to the process.
func open(t *testing.T) *system.System {
	t.Helper()
	return system.Connect(t, running)
}
