package signature_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/signature"
)

func b64(n int) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n)))
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, kind, says string }{
		"the shortest key is accepted":                  {"whsec_" + b64(24), signature.KindHMAC, ""},
		"the longest key is accepted":                   {"whsec_" + b64(64), signature.KindHMAC, ""},
		"a shorter key is refused":                      {"whsec_" + b64(23), signature.KindHMAC, "24 to 64 bytes, not 23"},
		"a longer key is refused":                       {"whsec_" + b64(65), signature.KindHMAC, "24 to 64 bytes, not 65"},
		"a missing prefix is refused":                   {b64(32), signature.KindHMAC, "must begin with"},
		"another prefix is refused":                     {publishedPrivate, signature.KindHMAC, "must begin with"},
		"something else than base64 is refused":         {"whsec_%%%%", signature.KindHMAC, "base64"},
		"base64 without padding is refused":             {"whsec_" + strings.TrimRight(b64(32), "="), signature.KindHMAC, "base64"},
		"base64 of the URL alphabet is refused":         {"whsec_" + strings.Repeat("_-", 20), signature.KindHMAC, "base64"},
		"base64 with a line end is refused":             {"whsec_" + b64(24) + "\n", signature.KindHMAC, "base64"},
		"base64 with stray bits is refused":             {"whsec_" + b64(30)[:38] + "B=", signature.KindHMAC, "base64"},
		"seed and public key are accepted":              {publishedPrivate, signature.KindEd25519, ""},
		"a bare seed is accepted":                       {publishedSeed, signature.KindEd25519, ""},
		"a public half of another seed is refused":      {"whsk_" + b64(64), signature.KindEd25519, "does not belong"},
		"another length is refused":                     {"whsk_" + b64(33), signature.KindEd25519, "32 bytes"},
		"a public key does not sign":                    {publishedPublic, signature.KindEd25519, "must begin with"},
		"a text of one character is accepted":           {"x", signature.KindText, ""},
		"a text of 255 characters is accepted":          {strings.Repeat("é", 255), signature.KindText, ""},
		"an empty text is refused":                      {"", signature.KindText, "1 to 255 characters"},
		"a text of 256 characters is refused":           {strings.Repeat("x", 256), signature.KindText, "1 to 255 characters"},
		"a text that is not UTF-8 is refused":           {"\xff", signature.KindText, "UTF-8"},
		"an unknown kind is refused":                    {"x", "rsa", "unknown kind"},
		"a text that looks like a key is text all over": {publishedSecret, signature.KindText, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := signature.ParseSecret(tt.text, tt.kind)
			if tt.says == "" {
				require.NoError(t, err)
				require.True(t, s.CanSign())
				require.NotEmpty(t, signature.StandardWebhooks("m", time.Unix(1, 0), nil, []signature.Secret{s}))
				return
			}
			require.ErrorContains(t, err, tt.says)
			require.False(t, s.CanSign())
			if len(tt.text) > 12 {
				require.NotContains(t, err.Error(), tt.text[6:12], "errors do not repeat the secret")
			}
		})
	}
}

func TestGeneratedSecretsParseAndDiffer(t *testing.T) {
	t.Parallel()
	a, b := signature.GenerateHMAC(), signature.GenerateHMAC()
	require.NotEqual(t, a, b)
	require.Equal(t, signature.KindHMAC, secret(t, a, signature.KindHMAC).Kind())

	private, public := signature.GenerateEd25519()
	s := secret(t, private, signature.KindEd25519)
	require.Equal(t, signature.KindEd25519, s.Kind())
	require.Equal(t, public, s.PublicKey())

	text := signature.GenerateText()
	require.Regexp(t, `^[0-9a-f]{64}$`, text)
	require.NotEqual(t, text, signature.GenerateText())
	require.Equal(t, signature.KindHMAC, secret(t, text, signature.KindText).Kind())
	require.Empty(t, secret(t, text, signature.KindText).PublicKey())
}

func TestThePublishedPairBelongsTogether(t *testing.T) {
	t.Parallel()
	for _, text := range []string{publishedPrivate, publishedSeed, publishedPublic} {
		s, err := signature.ParseVerificationKey(text)
		require.NoError(t, err)
		require.Equal(t, publishedPublic, s.PublicKey())
	}
	public, err := signature.ParseVerificationKey(publishedPublic)
	require.NoError(t, err)
	require.False(t, public.CanSign())
	require.Empty(t, signature.StandardWebhooks("m", time.Unix(1, 0), nil, []signature.Secret{public}))

	s, err := signature.ParseVerificationKey(publishedSecret)
	require.NoError(t, err)
	require.Equal(t, signature.KindHMAC, s.Kind())
	_, err = signature.ParseVerificationKey("whpk_" + b64(31))
	require.ErrorContains(t, err, "32 bytes")
	_, err = signature.ParseVerificationKey("whpk_%")
	require.ErrorContains(t, err, "base64")
}

func TestKindOf(t *testing.T) {
	t.Parallel()
	kind, ok := signature.KindOf(publishedSecret)
	require.True(t, ok)
	require.Equal(t, signature.KindHMAC, kind)
	kind, ok = signature.KindOf(publishedPrivate)
	require.True(t, ok)
	require.Equal(t, signature.KindEd25519, kind)
	_, ok = signature.KindOf(publishedPublic)
	require.False(t, ok)
}

func TestASecretPrintsItselfMasked(t *testing.T) {
	t.Parallel()
	const text = "hunter2hunter2hunter2"
	s := secret(t, text, signature.KindText)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).InfoContext(t.Context(), "secret", slog.Any("secret", s), slog.Any("in", struct{ S signature.Secret }{s}))
	asJSON, err := json.Marshal(map[string]any{"secret": s})
	require.NoError(t, err)
	for _, out := range []string{
		s.String(), fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s), fmt.Sprint(&s), log.String(), string(asJSON),
		fmt.Sprintf("%+v", struct{ S signature.Secret }{s}),
	} {
		require.NotContains(t, out, "hunter2")
		require.NotContains(t, out, "68756e74657232") // in hexadecimal
	}
	require.Empty(t, signature.Secret{}.Kind())
	require.Empty(t, signature.Secret{}.PublicKey())
	require.False(t, signature.Secret{}.CanSign())
}
