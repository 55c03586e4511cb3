package stores

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/kube/sandbox"
)

// hba lets in who comes by TLS with a password, and nobody else.
const hba = `hostssl all all all scram-sha-256
local all all trust
`

func (s *Stores) postgres(t testing.TB, network *sandbox.Network) *Server {
	t.Helper()
	bin, err := PostgresBin()
	require.NoError(t, err)
	files := s.certificate(t, pgAddress, "postgres.postgres.svc")
	files["pg_hba.conf"], files["password"] = hba, s.passwords["postgres"]
	// initdb asks who it is.
	passwd := filepath.Join(s.dir, "passwd")
	require.NoError(t, os.WriteFile(passwd, []byte("postgres:x:65533:65533::/data:/bin/sh\n"), 0o644))
	mounts := []sandbox.Mount{
		{Source: passwd, Target: "/etc/passwd", ReadOnly: true},
		{Source: s.files(t, "postgres-files", files), Target: "/run/postgres", ReadOnly: true},
		{Source: s.folder(t, "postgres"), Target: "/data"},
		{Source: s.folder(t, "postgres-tmp"), Target: "/tmp"},
		{Source: s.folder(t, "postgres-shm"), Target: "/dev/shm"},
	}
	init := s.server(network, "initdb", pgAddress, filepath.Join(bin, "initdb"), []string{
		"-D", "/data/pg", "-U", "postrider", "--pwfile", "/run/postgres/password", "--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C",
	}, nil, mounts...)
	init.Up(t)
	<-init.process.Ended()
	require.NoError(t, init.process.Result(), init.process.Tail(20))
	return s.server(network, "postgres", pgAddress, filepath.Join(bin, "postgres"), []string{
		"-D", "/data/pg", "-k", "/tmp", "-c", "listen_addresses=*", "-c", "ssl=on", "-c", "ssl_cert_file=/run/postgres/tls.crt",
		"-c", "ssl_key_file=/run/postgres/tls.key", "-c", "hba_file=/run/postgres/pg_hba.conf", "-c", "dynamic_shared_memory_type=mmap",
	}, nil, mounts...)
}

// PostgresBin is the folder of the newest PostgreSQL that is installed.
func PostgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed")
	}
	return filepath.Dir(slices.Max(found)), nil
}

// AwaitPostgres returns when PostgreSQL takes connections.
func (s *Stores) AwaitPostgres(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Contains(s.Postgres.process.Tail(5), "ready to accept connections") && s.Postgres.Listens(t, "5432")
	}, patience, 100*time.Millisecond, "PostgreSQL is not ready")
}
