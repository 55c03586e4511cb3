package signature_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/signature"
)

// Published and worked values. The key pair and msg_p5j... are the ones of Svix's server and
// libraries; the sample header of the specification shows that v1a signature beside another message.
const (
	publishedSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	publishedPrivate = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	publishedPublic  = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	publishedSeed    = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="

	contactBody = `{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"1f81eb52-5198-4599-803e-771906343485"}}`
	jewelBody   = `{"id":"evt_1234567890","type":"release.live","created":1693526400,"data":{"release_id":"rel_abc123def456",` +
		`"title":"My Album","artist":"Artist Name","status":"live","platforms":[{"name":"spotify","status":"live",` +
		`"url":"https://open.spotify.com/album/..."},{"name":"apple_music","status":"live","url":"https://music.apple.com/album/..."}],` +
		`"metadata":{"isrc":"USJML2500001","upc":"123456789012","release_date":"2025-09-01"}}}`
)

func secret(t testing.TB, text, kind string) signature.Secret {
	t.Helper()
	s, err := signature.ParseSecret(text, kind)
	require.NoError(t, err)
	return s
}

func TestStandardWebhooksGivesTheKnownValues(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text, kind, id string
		unix           int64
		body, want     string
	}{
		"v1, the worked value": {
			publishedSecret, signature.KindHMAC, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", 1674087231, contactBody,
			"v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=",
		},
		"v1, the value that Svix publishes": {
			publishedSecret, signature.KindHMAC, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
			"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		},
		"v1a, the published value": {
			publishedPrivate, signature.KindEd25519, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
			"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
		},
		"v1a by the bare seed": {
			publishedSeed, signature.KindEd25519, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
			"v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := secret(t, tt.text, tt.kind)
			for range 3 { // states and buffers are reused
				got := signature.StandardWebhooks(tt.id, time.Unix(tt.unix, 0), []byte(tt.body), []signature.Secret{s})
				require.Equal(t, tt.want, got)
			}
		})
	}
}

func TestHexHMACGivesTheKnownValues(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, body, want string }{
		"JewelMusic, the worked value":      {"jewel_whsec_5f1d", jewelBody, "c5d39dd49a088590501178966f96ab4950e574051eb8f013904a0b888ab774af"},
		"GitHub, the value that it teaches": {"It's a Secret to Everybody", "Hello, World!", "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := secret(t, tt.text, signature.KindText)
			for range 2 {
				require.Equal(t, tt.want, signature.HexHMAC(s, []byte(tt.body)))
			}
			require.NoError(t, signature.VerifyHex("sha256="+tt.want, "sha256=", []byte(tt.body), []signature.Secret{s}))
		})
	}
}

func TestRotationSignsWithEachSecretNewestFirst(t *testing.T) {
	t.Parallel()
	older := secret(t, publishedSecret, signature.KindHMAC)
	newer := secret(t, publishedPrivate, signature.KindEd25519)
	public, err := signature.ParseVerificationKey(publishedPublic)
	require.NoError(t, err)

	id, at, body := "evt_1", time.Unix(1674087231, 0), []byte(contactBody)
	got := signature.StandardWebhooks(id, at, body, []signature.Secret{newer, public, {}, older})
	entries := strings.Split(got, " ")
	require.Len(t, entries, 2, "what cannot sign is left out")
	require.Equal(t, signature.StandardWebhooks(id, at, body, []signature.Secret{newer}), entries[0])
	require.Equal(t, signature.StandardWebhooks(id, at, body, []signature.Secret{older}), entries[1])

	header := http.Header{}
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", "1674087231")
	header.Set("webhook-signature", got)
	for name, s := range map[string]signature.Secret{"older": older, "newer": newer, "public half": public} {
		require.NoError(t, signature.VerifyStandardWebhooks(header, body, []signature.Secret{s}, at, 0), name)
	}
}

func TestVerifyStandardWebhooks(t *testing.T) {
	t.Parallel()
	const good = "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ="
	at := time.Unix(1674087231, 0)
	tests := map[string]struct {
		change func(h http.Header)
		body   string
		now    time.Time
		want   error
	}{
		"a good request verifies":                             {},
		"it verifies at the end of the tolerance":             {now: at.Add(signature.DefaultTolerance)},
		"it verifies when the receiver's clock is behind":     {now: at.Add(-signature.DefaultTolerance)},
		"it is too old after the tolerance":                   {now: at.Add(signature.DefaultTolerance + time.Second), want: signature.ErrTimestamp},
		"it is from the future before the tolerance":          {now: at.Add(-signature.DefaultTolerance - time.Second), want: signature.ErrTimestamp},
		"another body does not verify":                        {body: contactBody + "\n", want: signature.ErrNoMatch},
		"another id does not verify":                          {change: set("webhook-id", "msg_x"), want: signature.ErrNoMatch},
		"another timestamp does not verify":                   {change: set("webhook-timestamp", "1674087232"), want: signature.ErrNoMatch},
		"a timestamp with a tail is none":                     {change: set("webhook-timestamp", "1674087231abc"), want: signature.ErrTimestamp},
		"a timestamp with a fraction is none":                 {change: set("webhook-timestamp", "1674087231.0"), want: signature.ErrTimestamp},
		"a timestamp with a sign is none":                     {change: set("webhook-timestamp", "+1674087231"), want: signature.ErrTimestamp},
		"a timestamp beyond every clock is none":              {change: set("webhook-timestamp", "99999999999999999999"), want: signature.ErrTimestamp},
		"the largest timestamp is too far away":               {change: set("webhook-timestamp", "9223372036854775807"), want: signature.ErrTimestamp},
		"the smallest timestamp is too far away":              {change: set("webhook-timestamp", "-9223372036854775808"), want: signature.ErrTimestamp},
		"a missing id is missing":                             {change: func(h http.Header) { h.Del("webhook-id") }, want: signature.ErrMissingHeader},
		"a missing timestamp is missing":                      {change: set("webhook-timestamp", ""), want: signature.ErrMissingHeader},
		"a missing signature is missing":                      {change: func(h http.Header) { h.Del("webhook-signature") }, want: signature.ErrMissingHeader},
		"a repeated header is refused":                        {change: func(h http.Header) { h.Add("webhook-id", "msg_y") }, want: signature.ErrMissingHeader},
		"entries without a comma are skipped":                 {change: set("webhook-signature", "v1 x "+good)},
		"unknown versions are skipped":                        {change: set("webhook-signature", "v9,AAAA "+good)},
		"entries that are not base64 are skipped":             {change: set("webhook-signature", "v1,%% "+good)},
		"the same bytes under another version do not verify":  {change: set("webhook-signature", "v1a,"+good[3:]), want: signature.ErrNoMatch},
		"a cut signature does not verify":                     {change: set("webhook-signature", "v1,ARw4"), want: signature.ErrNoMatch},
		"an empty signature does not verify":                  {change: set("webhook-signature", "v1,"), want: signature.ErrNoMatch},
		"a signature in unpadded base64 does not verify":      {change: set("webhook-signature", strings.TrimRight(good, "=")), want: signature.ErrNoMatch},
		"a signature in the URL alphabet does not verify":     {change: set("webhook-signature", strings.ReplaceAll(good, "/", "_")), want: signature.ErrNoMatch},
		"a single wrong bit does not verify":                  {change: set("webhook-signature", "v1,BRw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ="), want: signature.ErrNoMatch},
		"spaces between entries may be many":                  {change: set("webhook-signature", "  "+good+"  ")},
		"a second good entry is found behind a first bad one": {change: set("webhook-signature", "v1,BRw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ= "+good)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			h.Set("webhook-id", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")
			h.Set("webhook-timestamp", "1674087231")
			h.Set("webhook-signature", good)
			if tt.change != nil {
				tt.change(h)
			}
			body, now := contactBody, at
			if tt.body != "" {
				body = tt.body
			}
			if !tt.now.IsZero() {
				now = tt.now
			}
			err := signature.VerifyStandardWebhooks(h, []byte(body), []signature.Secret{secret(t, publishedSecret, signature.KindHMAC)}, now, signature.DefaultTolerance)
			require.ErrorIs(t, err, tt.want)
			require.ErrorIs(t, signature.VerifyStandardWebhooks(h, []byte(body), nil, now, signature.DefaultTolerance), orNoMatch(tt.want),
				"nothing verifies without a secret")
		})
	}
}

func set(name, value string) func(http.Header) {
	return func(h http.Header) { h.Set(name, value) }
}

func orNoMatch(err error) error {
	if err == nil {
		return signature.ErrNoMatch
	}
	return err
}

func TestVerifyHexRefuses(t *testing.T) {
	t.Parallel()
	s := []signature.Secret{secret(t, "jewel_whsec_5f1d", signature.KindText)}
	const sum = "c5d39dd49a088590501178966f96ab4950e574051eb8f013904a0b888ab774af"
	tests := map[string]struct {
		value string
		body  string
		want  error
	}{
		"no header":               {"", jewelBody, signature.ErrMissingHeader},
		"another prefix":          {"sha1=" + sum, jewelBody, signature.ErrNoMatch},
		"no prefix":               {sum, jewelBody, signature.ErrNoMatch},
		"no signature":            {"sha256=", jewelBody, signature.ErrNoMatch},
		"a cut signature":         {"sha256=" + sum[:62], jewelBody, signature.ErrNoMatch},
		"something else than hex": {"sha256=" + strings.Repeat("z", 64), jewelBody, signature.ErrNoMatch},
		"a list of signatures":    {"sha256=" + sum + ",sha256=" + sum, jewelBody, signature.ErrNoMatch},
		"another body":            {"sha256=" + sum, jewelBody + " ", signature.ErrNoMatch},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorIs(t, signature.VerifyHex(tt.value, "sha256=", []byte(tt.body), s), tt.want)
		})
	}
	require.ErrorIs(t, signature.VerifyHex("sha256="+sum, "sha256=", []byte(jewelBody), nil), signature.ErrNoMatch)
	require.Empty(t, signature.HexHMAC(signature.Secret{}, nil))
	require.Empty(t, signature.HexHMAC(secret(t, publishedPrivate, signature.KindEd25519), nil))
}

func TestSigningIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	secrets := []signature.Secret{secret(t, publishedSecret, signature.KindHMAC), secret(t, publishedPrivate, signature.KindEd25519)}
	at := time.Unix(1674087231, 0)
	want := map[byte]string{}
	body := func(n byte) []byte { return []byte(strings.Repeat(string(rune('a'+n)), int(n)*100+1)) }
	for n := range byte(8) {
		want[n] = signature.StandardWebhooks("evt_1", at, body(n), secrets)
	}
	done := make(chan bool)
	for n := range byte(8) {
		go func() {
			ok := true
			for range 50 {
				ok = ok && signature.StandardWebhooks("evt_1", at, body(n), secrets) == want[n]
			}
			done <- ok
		}()
	}
	for range 8 {
		require.True(t, <-done)
	}
}
