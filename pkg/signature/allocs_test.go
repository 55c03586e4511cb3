//go:build !race

package signature_test

import (
	"bytes"
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
