package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/credentials"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/test/fixture/clock"
	"github.com/postrider/postrider/test/fixture/logtest"

	// Registers the methods that the policy is made from.
	_ "github.com/postrider/postrider/proto/gen/go/postrider/scheduler/v1"
)

// A file that changes is read anew after a while; while it cannot be read the old value stands.
func TestReloaded(t *testing.T) {
	t.Parallel()
	c := clock.New(time.Time{})
	log, records := logtest.Recorder(t)
	value, loadErr := "first", errors.New("not there")
	r := &reloaded[string]{now: c.Now, log: log, load: func() (string, error) { return value, loadErr }}
	_, err := r.get()
	require.Error(t, err, "there is no old value yet")

	expect := func(want string) {
		t.Helper()
		got, err := r.get()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	loadErr = nil
	expect("first")
	value = "second"
	expect("first")
	c.Advance(reloadAfter)
	expect("second")
	loadErr = errors.New("half written")
	c.Advance(reloadAfter)
	expect("second")
	require.Len(t, records.Find("using the old certificate"), 1)
	value, loadErr = "third", nil
	c.Advance(reloadAfter)
	expect("third")
}

// A client trusts whom its CA file names at the handshake, not when the client was made.
func TestClientTrustsTheCAsOfTheMoment(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.crt")
	handshake := func(creds credentials.TransportCredentials, server tls.Certificate) error {
		near, far := net.Pipe()
		defer func() { _ = errors.Join(near.Close(), far.Close()) }()
		serving := tls.Server(far, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{server}, NextProtos: []string{"h2"}})
		go func() { _ = serving.HandshakeContext(t.Context()) }() // it ends with the pipe
		_, _, err := creds.ClientHandshake(t.Context(), "server.example", near)
		return err
	}
	oldPEM, oldServer := selfSigned(t)
	newPEM, newServer := selfSigned(t)
	require.NoError(t, os.WriteFile(file, oldPEM, 0o600))
	creds, err := clientTLS(ClientConfig{Target: "server.example:1", CAFile: file})
	require.NoError(t, err)
	c := clock.New(time.Now())
	own := creds.(*reloading)
	own.current.now = c.Now
	require.NoError(t, handshake(creds, oldServer))
	require.Error(t, handshake(creds, newServer))

	require.NoError(t, os.WriteFile(file, newPEM, 0o600))
	c.Advance(reloadAfter)
	require.NoError(t, handshake(creds.Clone(), newServer))
	require.Error(t, handshake(creds, oldServer))
}

// selfSigned is a server's certificate that is its own authority.
func selfSigned(t *testing.T) (authority []byte, server tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"server.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Only methods that read are repeated.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	names := repeatable()
	require.Contains(t, names, method{Service: "postrider.scheduler.v1.SchedulerService", Method: "ListRetries"})
	for _, m := range names {
		require.Regexp(t, "^(Get|List|Explain)", m.Method)
	}
}

// An id that is taken is short and can be printed on one line.
func TestValidRequestID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.String(), rapid.StringMatching(`[!-~]{1,200}`)).Draw(t, "id")
		if validRequestID(id) {
			require.Regexp(t, `^[!-~]{1,128}$`, id)
		} else {
			require.NotRegexp(t, `^[!-~]{1,128}$`, id)
		}
	})
}
