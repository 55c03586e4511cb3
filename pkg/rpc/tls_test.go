package rpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	schedulerv1 "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// authority is a CA and where its certificate stands.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

// newAuthority makes a CA.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{cert: cert, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// issue makes a certificate for 127.0.0.1 and returns the files of it and of its key.
func (a *authority) issue(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certFile, keyFile
}

// With TLS on both sides, only clients with a certificate of the right CA are served.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	cfg := rpc.ServerConfig{Listen: "127.0.0.1:0", ClientCAFile: ours.file}
	cfg.CertFile, cfg.KeyFile = ours.issue(t)
	s, err := rpc.NewServer(cfg, logtest.New(t))
	require.NoError(t, err)
	schedulerv1.RegisterSchedulerServiceServer(s.Registrar(), &scheduler{schedule: func(context.Context, *schedulerv1.ScheduleRetryRequest) (*schedulerv1.ScheduleRetryResponse, error) {
		return &schedulerv1.ScheduleRetryResponse{}, nil
	}})
	start(t, s)
	ourCert, ourKey := ours.issue(t)
	theirCert, theirKey := theirs.issue(t)

	tests := map[string]struct {
		cfg rpc.ClientConfig
		ok  bool
	}{
		"our certificate is let in":           {rpc.ClientConfig{CAFile: ours.file, CertFile: ourCert, KeyFile: ourKey}, true},
		"no certificate is refused":           {rpc.ClientConfig{CAFile: ours.file}, false},
		"another CA's certificate is refused": {rpc.ClientConfig{CAFile: ours.file, CertFile: theirCert, KeyFile: theirKey}, false},
		"the server's CA must be ours":        {rpc.ClientConfig{CAFile: theirs.file, CertFile: ourCert, KeyFile: ourKey}, false},
		"the server's name must fit":          {rpc.ClientConfig{CAFile: ours.file, CertFile: ourCert, KeyFile: ourKey, ServerName: "other.example"}, false},
		"clear text is refused":               {rpc.ClientConfig{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Target = s.Addr().String()
			client := schedulerv1.NewSchedulerServiceClient(connect(t, tt.cfg))
			_, err := client.ScheduleRetry(t.Context(), &schedulerv1.ScheduleRetryRequest{})
			if tt.ok {
				require.NoError(t, err)
				return
			}
			kind, _ := fault.KindOf(err)
			require.Equal(t, fault.Unavailable, kind, "%v", err)
		})
	}
}

// Every fault of a configuration is named by its option, files included.
func TestConfigFaults(t *testing.T) {
	t.Parallel()
	log := logtest.New(t)
	ours := newAuthority(t)
	cert, key := ours.issue(t)
	none := filepath.Join(t.TempDir(), "none.pem")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))

	for want, cfg := range map[string]rpc.ServerConfig{
		"listen: must be set":           {},
		"tls-key-file: must be set":     {Listen: ":0", CertFile: cert},
		"tls-client-ca-file: must be":   {Listen: ":0", ClientCAFile: ours.file},
		"read the server's certificate": {Listen: ":0", CertFile: none, KeyFile: key},
		"read the clients' CAs":         {Listen: ":0", CertFile: cert, KeyFile: key, ClientCAFile: none},
		"the file holds no certificate": {Listen: ":0", CertFile: cert, KeyFile: key, ClientCAFile: empty},
	} {
		_, err := rpc.NewServer(cfg, log)
		require.ErrorContains(t, err, want)
	}
	for want, cfg := range map[string]rpc.ClientConfig{
		"target: must be set":           {},
		"tls-key-file: must be set":     {Target: "a", CAFile: ours.file, CertFile: cert},
		"tls-ca-file: must be set":      {Target: "a", CertFile: cert, KeyFile: key},
		"tls-server-name: must be set":  {Target: "a", ServerName: "b"},
		"read the server's CAs":         {Target: "a", CAFile: none},
		"read the client's certificate": {Target: "a", CAFile: ours.file, CertFile: none, KeyFile: key},
		"dial %zz":                      {Target: "%zz"},
	} {
		_, err := rpc.Dial(cfg)
		require.ErrorContains(t, err, want)
	}
}
