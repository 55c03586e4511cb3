package logstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// A connection trusts whom the CA file of the URL names when it is made; a file that cannot be read
// changes nothing.
func TestConnectionsTrustTheCAsOfTheMoment(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.crt")
	url := "postgres://u:p@db.example/log?sslmode=verify-full&sslrootcert=" + file
	before := writeCA(t, file)
	conn, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	require.True(t, conn.TLSConfig.RootCAs.Equal(before))

	after := writeCA(t, file)
	require.NoError(t, refreshTLS(conn, url))
	require.True(t, conn.TLSConfig.RootCAs.Equal(after))
	require.False(t, conn.TLSConfig.RootCAs.Equal(before))
	require.Equal(t, "db.example", conn.TLSConfig.ServerName)

	require.NoError(t, os.Remove(file))
	require.NoError(t, refreshTLS(conn, url))
	require.True(t, conn.TLSConfig.RootCAs.Equal(after))
}

// writeCA puts a new CA into the file.
func writeCA(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(file, text, 0o600))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	return pool
}
