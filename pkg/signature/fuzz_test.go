package signature_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/signature"
)

func FuzzParseSecret(f *testing.F) {
	for _, text := range []string{publishedSecret, publishedPrivate, publishedSeed, publishedPublic, "text", "whsec_", "whsk_=="} {
		for _, kind := range []string{signature.KindHMAC, signature.KindEd25519, signature.KindText, "?"} {
			f.Add(text, kind)
		}
	}
	f.Fuzz(func(t *testing.T, text, kind string) {
		s, err := signature.ParseSecret(text, kind)
		if err != nil {
			require.False(t, s.CanSign())
			return
		}
		at := time.Unix(1674087231, 0)
		value := signature.StandardWebhooks("evt_1", at, []byte(text), []signature.Secret{s})
		require.NoError(t, signature.VerifyStandardWebhooks(headers("evt_1", "1674087231", value), []byte(text), []signature.Secret{s}, at, 0))
	})
}

// FuzzVerifyStandardWebhooks looks for headers that verify although they were not made by signing.
func FuzzVerifyStandardWebhooks(f *testing.F) {
	const good = "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ="
	f.Add("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", "1674087231", good, []byte(contactBody))
	f.Add("a", "-1", "v1a,"+good, []byte{})
	f.Add("", " 1", " , ,,", []byte("x"))
	s, err := signature.ParseSecret(publishedSecret, signature.KindHMAC)
	require.NoError(f, err)
	private, err := signature.ParseSecret(publishedPrivate, signature.KindEd25519)
	require.NoError(f, err)
	secrets := []signature.Secret{private, s}
	f.Fuzz(func(t *testing.T, id, stamp, value string, body []byte) {
		at := time.Unix(1674087231, 0)
		err := signature.VerifyStandardWebhooks(headers(id, stamp, value), body, secrets, at, signature.DefaultTolerance)
		if err != nil {
			return
		}
		unix, err := strconv.ParseInt(stamp, 10, 64)
		require.NoError(t, err)
		require.Contains(t, value, signature.StandardWebhooks(id, time.Unix(unix, 0), body, []signature.Secret{s})[3:])
	})
}

func FuzzVerifyHex(f *testing.F) {
	f.Add("sha256=c5d39dd49a088590501178966f96ab4950e574051eb8f013904a0b888ab774af", []byte(jewelBody))
	f.Add("sha256=", []byte{})
	s, err := signature.ParseSecret("jewel_whsec_5f1d", signature.KindText)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, value string, body []byte) {
		if signature.VerifyHex(value, "sha256=", body, []signature.Secret{s}) == nil {
			require.Len(t, value, len("sha256=")+64)
		}
	})
}

func headers(id, stamp, value string) http.Header {
	return http.Header{
		signature.HeaderID: {id}, signature.HeaderTimestamp: {stamp}, signature.HeaderSignature: {value},
	}
}

func TestWhatIsSignedVerifiesAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		private, _ := signature.GenerateEd25519()
		all := make([]signature.Secret, 0, 3)
		for _, text := range []string{signature.GenerateHMAC(), private, signature.GenerateHMAC()} {
			s, err := signature.ParseVerificationKey(text)
			require.NoError(t, err)
			all = append(all, s)
		}
		id := rapid.StringMatching(`[a-z]+_[A-Za-z0-9]{1,30}`).Draw(t, "id")
		unix := rapid.Int64Range(0, 1<<40).Draw(t, "unix")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(unix, 0)

		signers := all[:rapid.IntRange(1, 2).Draw(t, "signers")]
		h := headers(id, strconv.FormatInt(unix, 10), signature.StandardWebhooks(id, at, body, signers))
		for _, s := range signers {
			require.NoError(t, signature.VerifyStandardWebhooks(h, body, []signature.Secret{s}, at, 0))
		}
		require.ErrorIs(t, signature.VerifyStandardWebhooks(h, body, all[2:], at, 0), signature.ErrNoMatch)
		require.ErrorIs(t, signature.VerifyStandardWebhooks(h, append(body, 0), all, at, 0), signature.ErrNoMatch)
		h.Set(signature.HeaderID, id+"x")
		require.ErrorIs(t, signature.VerifyStandardWebhooks(h, body, all, at, 0), signature.ErrNoMatch)
	})
}
