package dispatcher

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

func newClient(cfg EgressConfig, resolver egress.Resolver) (*egress.Client, error) {
	guard, err := egress.NewGuard(cfg.AllowNetworks)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	return egress.NewClient(egress.Options{
		Guard: guard, Resolver: resolver, Proxy: cfg.Proxy.Reveal(), RootCAs: roots,
		ConnectTimeout: cfg.ConnectTimeout, TLSTimeout: cfg.TLSTimeout, HeaderTimeout: cfg.HeaderTimeout,
		BodyTimeout: cfg.BodyTimeout, IdleTimeout: cfg.IdleTimeout,
		MaxIdle: cfg.MaxIdleConnections, MaxIdlePerHost: cfg.MaxIdlePerHost,
	})
}

// readRoots adds a file's certificate authorities to the system's; nil means the system's alone.
func readRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // crypto/tls takes nil for the system's roots
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("read certificate authorities: the file holds none")
	}
	return roots, nil
}
