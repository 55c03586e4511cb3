//go:build e2e

package compat

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// trickyRecords are objects, because some systems have no other data, with an integer id, because
// one wants it. The last is about the longest there is.
var trickyRecords = []string{
	`{"id":29}`, "{\"id\":29,\"a\":1}\n", `{"id":29,"s":"<&>\/"}`, "{\"id\":29,\"s\":\"\u2028\u2029\"}",
	`{"z":9007199254740993,"id":29,"f":0.1000,"b":1,"a":2}`, `{"id":29,"name":"Söhne 😀 \ud83d\ude00","":{}}`,
	`{"id":29,"pad":"` + strings.Repeat("é", (1<<20-64)/2) + `"}`,
}

// Whatever the data, what every system is sent verifies with a library that is not ours, and holds
// the data byte for byte. What jewelmusic and the named schemes are sent has such tests of its own.
func TestVerifiersAcceptEveryProfile(t *testing.T) {
	s := open(t)
	for _, hook := range []*postriderv1.Webhook{
		{Profile: "standard", EventTypes: all},
		{Profile: "cloudevents", EventTypes: all},
		{Profile: "cloudevents", EventTypes: all, Options: &postriderv1.ProfileOptions{CloudeventsMode: "structured"}},
		{Profile: "labelst", EventTypes: all},
		{Profile: "audata", EventTypes: []string{listenerUpdated}},
		{Profile: "ingedata", EventTypes: all},
	} {
		t.Run(hook.GetProfile()+hook.GetOptions().GetCloudeventsMode(), func(t *testing.T) {
			t.Parallel()
			a := s.NewAccount(t)
			r := receivertest.New(t, receivertest.WithTLS())
			hook.Url = r.URL + "/hook"
			secret := a.Webhook(t, hook).GetSecret()
			if hook.GetProfile() == "labelst" { // the key is the token's text
				secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte(secret))
			}
			port, verdicts := system.NodeReceiver(t, "standard.js", secret)
			url := fmt.Sprintf("http://127.0.0.1:%d/", port)
			for _, data := range trickyRecords {
				a.Publish(t, listenerUpdated, data)
				got := r.Next(t)
				require.Contains(t, string(got.Body), strings.TrimSpace(data))
				require.Equal(t, http.StatusOK, handOn(t, url, got, got.Body))
				require.Equal(t, http.StatusOK, system.Next(t, verdicts).Status)
				require.Equal(t, http.StatusUnauthorized, handOn(t, url, got, append(bytes.Clone(got.Body), ' ')), "the verifier can say no")
				require.Equal(t, http.StatusUnauthorized, system.Next(t, verdicts).Status)
			}
		})
	}
	t.Run("offblocks", func(t *testing.T) {
		t.Parallel()
		a := s.NewAccount(t)
		_, verdicts := offblocksReceiver(t, a)
		for _, data := range trickyRecords {
			a.Publish(t, "customer.updated", data)
			v := system.Next(t, verdicts)
			require.Equal(t, http.StatusOK, v.Status, v.Error)
			require.Equal(t, "customer.updated", v.Event)
			require.Contains(t, string(arrived(t, v).Body), strings.TrimSpace(data)[1:])
		}
	})
}

// handOn sends a verifier what a receiver got, with another body if need be.
func handOn(t *testing.T, url string, got *receivertest.Request, body []byte) (status int) {
	t.Helper()
	headers := make([]string, 0, 2*len(got.Header))
	for name := range got.Header {
		if name != "Content-Length" && name != "Accept-Encoding" {
			headers = append(headers, name, got.Header.Get(name))
		}
	}
	status, _ = system.Call(t, http.MethodPost, url, "", string(body), headers...)
	return status
}
