package bench

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/signature"
)

// arrival is one request as the receiver saw it.
type arrival struct {
	event ulid.ULID
	hook  uint16 // the number in the URL
	at    int64  // unix nanoseconds, when the body had been read
}

// arrivalSize is an arrival's size on the wire between the receiver's process and ours.
const arrivalSize = 16 + 2 + 8

// The receiver's paths: hookPath and a number for webhooks, the others for us.
const (
	hookPath     = "/hook/"
	countPath    = "/count"
	arrivalsPath = "/arrivals"
	resetPath    = "/reset"
)

// receiver answers every webhook with 200 and remembers what arrived. It does what any receiver
// has to do, no more: the plain loop posts to it too, so its cost is in both sides of every ratio.
type receiver struct {
	count  atomic.Int64
	shards [32]struct {
		sync.Mutex
		arrivals []arrival
	}
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	number, ok := strings.CutPrefix(q.URL.Path, hookPath)
	if !ok {
		r.control(w, q)
		return
	}
	hook, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		http.NotFound(w, q)
		return
	}
	event, err := eventID(q.Header.Get(signature.HeaderID))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if n, err := io.Copy(io.Discard, q.Body); err != nil || n != payloadSize {
		http.Error(w, "the body is not what was published", http.StatusBadRequest)
		return
	}
	s := &r.shards[int(event[len(event)-1])%len(r.shards)]
	s.Lock()
	s.arrivals = append(s.arrivals, arrival{event: event, hook: uint16(hook), at: time.Now().UnixNano()})
	s.Unlock()
	r.count.Add(1)
}

// eventID reads "evt_" + ULID.
func eventID(text string) (ulid.ULID, error) {
	id, err := ulid.ParseStrict(strings.TrimPrefix(text, "evt_"))
	if err != nil {
		return id, fmt.Errorf("read event id %q: %w", text, err)
	}
	return id, nil
}

func (r *receiver) control(w http.ResponseWriter, q *http.Request) {
	switch q.URL.Path {
	case countPath:
		_, _ = fmt.Fprint(w, r.count.Load()) // a lost answer is the asker's error
	case resetPath:
		for i := range r.shards {
			s := &r.shards[i]
			s.Lock()
			s.arrivals = nil
			s.Unlock()
		}
		r.count.Store(0)
	case arrivalsPath:
		out := bufio.NewWriter(w)
		for i := range r.shards {
			s := &r.shards[i]
			s.Lock()
			writeArrivals(out, s.arrivals)
			s.Unlock()
		}
		_ = out.Flush()
	default:
		http.NotFound(w, q)
	}
}

func writeArrivals(out io.Writer, list []arrival) {
	for _, a := range list {
		var b [arrivalSize]byte
		copy(b[:], a.event[:])
		binary.LittleEndian.PutUint16(b[16:], a.hook)
		binary.LittleEndian.PutUint64(b[18:], uint64(a.at))
		_, _ = out.Write(b[:]) // a bufio.Writer keeps its first error
	}
}

func readArrivals(in io.Reader) ([]arrival, error) {
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	if len(data)%arrivalSize != 0 {
		return nil, errors.New("the list of arrivals is cut off")
	}
	list := make([]arrival, 0, len(data)/arrivalSize)
	for ; len(data) > 0; data = data[arrivalSize:] {
		a := arrival{
			hook: binary.LittleEndian.Uint16(data[16:]),
			at:   int64(binary.LittleEndian.Uint64(data[18:])),
		}
		copy(a.event[:], data)
		list = append(list, a)
	}
	return list, nil
}

// ServeReceiver runs a receiver: it writes its base URL, that over TLS, and who vouches for it (PEM in
// base64) to out and serves until in ends, which it does when the process that started this one is gone.
func ServeReceiver(ctx context.Context, in io.Reader, out io.Writer) error {
	tune()
	certificate, ca, err := selfSigned()
	if err != nil {
		return err
	}
	var listen net.ListenConfig
	open, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secure, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, open.Close())
	}
	// Both count and keep in one place; a server that began without TLS would speak no HTTP/2 over it.
	arrived := &receiver{}
	plain := &http.Server{Handler: arrived, ReadHeaderTimeout: 10 * time.Second}
	overTLS := &http.Server{
		Handler: arrived, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	end := func() error { return errors.Join(plain.Close(), overTLS.Close()) }
	done := make(chan error, 2)
	go func() { done <- plain.Serve(open) }()
	go func() { done <- overTLS.ServeTLS(secure, "", "") }()
	if _, err := fmt.Fprintf(out, "http://%s https://%s %s\n", open.Addr(), secure.Addr(), base64.StdEncoding.EncodeToString(ca)); err != nil {
		return errors.Join(err, end())
	}
	_, err = io.Copy(io.Discard, in)
	err = errors.Join(err, end())
	for range cap(done) {
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

// selfSigned is a certificate for this machine that vouches for itself, and its PEM.
func selfSigned() (certificate tls.Certificate, ca []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receiver of the benchmark"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return certificate, nil, err
	}
	certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
