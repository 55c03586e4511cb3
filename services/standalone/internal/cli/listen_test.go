package cli

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/signature"
)

func TestListenMakesAWebhookPrintsWhatArrivesAndCleansUp(t *testing.T) {
	t.Parallel()
	for _, profile := range []string{"standard", "jewelmusic", "jewelmusic-sdk", "ingedata", "svix", "square"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			s := running(t)
			l := s.background(t, "listen", "--create", "--events", "release.*", "--profile", profile, "--respond", "500,200", "--count", "2")
			l.await(t, "is deleted in the end")
			require.Contains(t, s.ok(t, "webhooks", "list"), profile)
			s.ok(t, "publish", "track.uploaded")
			s.ok(t, "publish", "release.live", "--data", `{"isrc":"AUJM02612345"}`)
			l.await(t, "answered 500")
			s.ok(t, "publish", "release.created", "--data", `{"isrc":"AUJM02612346"}`)
			end := l.end(t)
			require.Equal(t, exitOK, end.code, end.err)
			require.Regexp(t, `(?m)^#1 .* POST /  answered 500$`, end.out)
			require.Regexp(t, `(?m)^#2 .* POST /  answered 200$`, end.out)
			require.Equal(t, 2, strings.Count(end.out, "signature valid"))
			require.Contains(t, end.out, `"isrc": "AUJM02612345"`)
			require.Regexp(t, `(?m)^    webhook-id: evt_`, end.out)
			require.NotContains(t, end.out, "track.uploaded")
			require.Contains(t, end.err, "deleted webhook wh_")
			require.Empty(t, list(t, s.json(t, "webhooks", "list"), "webhooks"))
		})
	}
}

func TestListenIsEndedByAnInterruption(t *testing.T) {
	t.Parallel()
	s := running(t)
	l := s.background(t, "listen", "--create", "--events", "*")
	l.await(t, "is deleted in the end")
	l.cancel()
	require.Equal(t, exitOK, l.end(t).code)
	require.Empty(t, list(t, s.json(t, "webhooks", "list"), "webhooks"), "the webhook does not outlive it")
}

func TestListenSaysWhichSignaturesAreWrong(t *testing.T) {
	t.Parallel()
	s := &shell{}
	l := s.background(t, "listen", "--secret", signature.GenerateHMAC(), "--count", "1", "-o", "json")
	post(t, l, `{"a":1}`)
	end := l.end(t)
	require.Equal(t, exitFailure, end.code)
	require.Contains(t, end.err, "1 of 1 signatures were wrong")
	var a arrival
	require.NoError(t, json.Unmarshal([]byte(end.out), &a))
	require.Equal(t, "invalid", a.Signature)
	require.Equal(t, signature.ErrMissingHeader.Error(), a.Reason)
	require.JSONEq(t, `{"a":1}`, string(a.Body))

	l = s.background(t, "listen", "--count", "1")
	post(t, l, "\x1b[2Jno json")
	end = l.end(t)
	require.Equal(t, exitOK, end.code)
	require.Contains(t, end.out, "signature unchecked: no --secret was given")
	require.NotContains(t, end.out, "\x1b")
}

// post sends a request to a listener.
func post(t *testing.T, l *background, body string) {
	t.Helper()
	l.await(t, "listening on ")
	url := regexp.MustCompile(`http://\S+`).FindString(l.err.String())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestMistakesInListen(t *testing.T) {
	t.Parallel()
	s := &shell{env: map[string]string{"POSTRIDER_SERVER": "127.0.0.1:1"}}
	for words, args := range map[string][]string{
		"--profile must be":      {"listen", "--profile", "nobodys"},
		"--respond: \"99\"":      {"listen", "--respond", "99"},
		"--secret: ":             {"listen", "--secret", "nonsense"},
		"[create events]":        {"listen", "--create"},
		"--url goes with":        {"listen", "--url", "http://x"},
		"[create secret]":        {"listen", "--create", "--events", "*", "--secret", "whsec_x"},
		"invalid argument \"x\"": {"listen", "--port", "x"},
	} {
		s.fails(t, exitUsage, words, args...)
	}
	s.fails(t, exitUnavailable, "127.0.0.1:1", "listen", "--create", "--events", "*")
}
