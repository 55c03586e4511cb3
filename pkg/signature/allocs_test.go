//go:build !race

package signature_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/signature"
)

// The race detector drops pooled values at random, so allocations are counted without it.
func TestSigningAllocatesLittle(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 1024)
	secrets := []signature.Secret{secret(t, publishedSecret, signature.KindHMAC)}
	at := time.Unix(1674087231, 0)
	perRun := testing.AllocsPerRun(200, func() { signature.StandardWebhooks("evt_01JDABCDEFGHJKMNPQRSTVWXYZ", at, body, secrets) })
	require.LessOrEqual(t, perRun, 2.0, "the result, and no new HMAC state")
	perRun = testing.AllocsPerRun(200, func() { signature.HexHMAC(secrets[0], body) })
	require.LessOrEqual(t, perRun, 3.0)
}

// A header's value is a text and a slice; nothing else is left behind.
func TestSchemesAllocateLittle(t *testing.T) {
	m := message(commonUnix, inbox, "application/json", strings.Repeat("x", 1024))
	h := http.Header{}
	for _, n := range signature.Schemes() {
		text, _ := n.Scheme.GenerateSecret()
		s, err := n.Scheme.ParseSecret(text)
		require.NoError(t, err)
		secrets := []signature.Secret{s}
		perRun := testing.AllocsPerRun(200, func() { _ = n.Scheme.Sign(h, m, secrets) })
		require.LessOrEqual(t, perRun, float64(2*len(n.Scheme.Headers())+1), n.Name)
	}
}
