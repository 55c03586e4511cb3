package plane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/postrider/postrider/test/kube/manifest"
)

// Pair is a certificate with its key and the authorities of those that its holder talks to, in PEM.
type Pair struct{ Cert, Key, CA []byte }

// Authority is the issuer of everything in one cluster.
type Authority struct {
	cert   *x509.Certificate
	signer *ecdsa.PrivateKey
	pem    []byte

	mu     sync.Mutex
	serial int64
}

// NewAuthority makes one.
func NewAuthority(name string) (*Authority, error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, signer.Public(), signer)
	if err != nil {
		return nil, err
	}
	// What was made has an id of its key, by which those that it issues refer to it.
	if cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return &Authority{cert: cert, signer: signer, serial: 1, pem: block("CERTIFICATE", der)}, nil
}

// TLS is the pair for a server or a client.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Cert, p.Key) }

// Trust is the configuration of a client that trusts whom the authority certified under a name.
func (a *Authority) Trust(name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: name}
}

// PEM is the authority's own certificate.
func (a *Authority) PEM() []byte { return a.pem }

// usages are those of the Certificate that we have, by cert-manager's names.
var usages = map[string]struct {
	key      x509.KeyUsage
	extended []x509.ExtKeyUsage
}{
	"digital signature": {key: x509.KeyUsageDigitalSignature},
	"server auth":       {extended: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
	"client auth":       {extended: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
}

// Issue makes what a Certificate asks for.
func (a *Authority) Issue(c *manifest.Certificate) (Pair, error) {
	duration, err := time.ParseDuration(c.Spec.Duration)
	if err != nil {
		return Pair{}, err
	}
	if k := c.Spec.PrivateKey; k.Algorithm != "ECDSA" || k.Size != 256 {
		return Pair{}, fmt.Errorf("certificate %s: this issues to ECDSA keys of 256 bits alone", c.Metadata.Name)
	}
	if r := c.Spec.IssuerRef; r.Kind != "Issuer" || r.Name != "postrider" {
		return Pair{}, fmt.Errorf("certificate %s: there is no %s %s", c.Metadata.Name, r.Kind, r.Name)
	}
	t := &x509.Certificate{NotAfter: time.Now().Add(duration), DNSNames: c.Spec.DNSNames}
	for _, name := range c.Spec.Usages {
		usage, ok := usages[name]
		if !ok {
			return Pair{}, fmt.Errorf("certificate %s: nobody knows the usage %q", c.Metadata.Name, name)
		}
		t.KeyUsage |= usage.key
		t.ExtKeyUsage = append(t.ExtKeyUsage, usage.extended...)
	}
	return a.sign(t)
}

// IssueStore makes the certificate of a store or of somebody outside, by its names.
func (a *Authority) IssueStore(addresses []net.IP, names ...string) (Pair, error) {
	return a.sign(&x509.Certificate{
		NotAfter: time.Now().Add(24 * time.Hour), DNSNames: names, IPAddresses: addresses, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func (a *Authority) sign(t *x509.Certificate) (Pair, error) {
	a.mu.Lock()
	a.serial++
	t.SerialNumber = big.NewInt(a.serial)
	a.mu.Unlock()
	t.NotBefore = time.Now().Add(-time.Minute)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.signer)
	if err != nil {
		return Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", private), CA: a.pem}, nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
