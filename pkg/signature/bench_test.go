package signature_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/signature"
)

func BenchmarkStandardWebhooks(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	at := time.Unix(1674087231, 0)
	for name, text := range map[string]string{"v1": publishedSecret, "v1a": publishedPrivate} {
		b.Run(name, func(b *testing.B) {
			s, err := signature.ParseVerificationKey(text)
			require.NoError(b, err)
			secrets := []signature.Secret{s}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				signature.StandardWebhooks("evt_01JDABCDEFGHJKMNPQRSTVWXYZ", at, body, secrets)
			}
		})
	}
}

func BenchmarkHexHMAC(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	s := secret(b, "jewel_whsec_5f1d", signature.KindText)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		signature.HexHMAC(s, body)
	}
}

func BenchmarkScheme(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 1024)
	for _, n := range signature.Schemes() {
		b.Run(n.Name, func(b *testing.B) {
			text, _ := n.Scheme.GenerateSecret()
			s, err := n.Scheme.ParseSecret(text)
			require.NoError(b, err)
			secrets := []signature.Secret{s}
			m := message(commonUnix, inbox, "application/json", string(body))
			h := http.Header{}
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				require.NoError(b, n.Scheme.Sign(h, m, secrets))
			}
		})
	}
}
