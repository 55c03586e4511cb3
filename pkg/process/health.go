package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/postrider/postrider/pkg/service"
)

// healthCommand, as the only argument before the options, makes a service's binary ask whether the process
// beside it is ready: an image that holds nothing but the binary has no other program to ask with.
const healthCommand = "health"

// healthTimeout bounds the question.
const healthTimeout = 3 * time.Second

var (
	errNoHealth = errors.New("health-listen: is empty, so nobody can be asked")
	errNotReady = errors.New("not ready")
)

// askHealth asks the process that has the same configuration, and returns the code to exit with.
func askHealth(ctx context.Context, cfg service.AdminConfig, stdout, stderr io.Writer) int {
	if err := ready(ctx, cfg.HealthListen); err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return ExitFailure
	}
	_, _ = fmt.Fprintln(stdout, "ready")
	return ExitOK
}

func ready(ctx context.Context, listen string) error {
	if listen == "" {
		return errNoHealth
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("health-listen: %w", err)
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(host, port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer func() { _ = cc.Close() }()
	answer, err := healthv1.NewHealthClient(cc).Check(ctx, &healthv1.HealthCheckRequest{Service: service.Readiness})
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	if answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return errNotReady
	}
	return nil
}
