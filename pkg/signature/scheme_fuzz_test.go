package signature_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/signature"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// FuzzParseScheme looks for schemes that are accepted although what they sign does not verify, and
// for headers that HTTP cannot carry.
func FuzzParseScheme(f *testing.F) {
	f.Add("hmac-sha256", "", "{id}.{ts}.{body}", "base64", "X-Sig", "v1,{sig}", "X-Time", "X-Id", "space", "evt_1", []byte("{}"))
	f.Add("hmac-sha1", "hex", "{method} {path}?{query}{body}{ts_ms}", "hex", "X-Sig", "t={ts},m={ts_ms},v1={sig},i={id}", "", "", "repeat", "a", []byte("x"))
	f.Add("ed25519", "base64", "{url}{form_sorted}", "hex", "Authorization", "Sig {sig}={ts}", "X-Time", "", "none", "z", []byte("a=b&a=%"))
	f.Add("hmac-sha256", "utf8", "{{body}}", "", "Host", "{sig}{sig}", "", "", "", "", []byte(nil))
	f.Fuzz(func(t *testing.T, algorithm, keyEncoding, template, encoding, header, value, timestampHeader, idHeader, multiple, id string, body []byte) {
		s, err := signature.ParseScheme(&postriderv1.SignatureScheme{
			Algorithm: algorithm, KeyEncoding: keyEncoding, Template: template, Encoding: encoding, Header: header, Value: value,
			TimestampHeader: timestampHeader, IdHeader: idHeader, Multiple: multiple,
		})
		if err != nil {
			broken, ok := fault.As(err)
			require.True(t, ok)
			require.NotEmpty(t, broken.Violations)
			return
		}
		secrets := make([]signature.Secret, 2)
		for i := range secrets {
			text, _ := s.GenerateSecret()
			secrets[i], err = s.ParseSecret(text)
			require.NoError(t, err)
		}
		if !isID(id) {
			id = "evt_1"
		}
		at := time.UnixMilli(1674087231042)
		m := signature.SchemeMessage{
			ID: id, Type: "a.b", Delivery: "dlv_1", Time: at, Method: http.MethodPost, URL: inbox + "?a=b",
			ContentType: "application/x-www-form-urlencoded", Body: body,
		}
		h := http.Header{}
		require.NoError(t, s.Sign(h, m, secrets))
		require.Len(t, h, len(s.Headers()))
		for name, values := range h {
			require.Len(t, values, 1)
			require.NotContains(t, name+values[0], "\n")
		}
		_, err = s.Verify(h, m, secrets[:1], at, time.Second)
		require.NoError(t, err, "%v", h)
	})
}

func isID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return id != ""
}

// FuzzVerifyScheme looks for headers that verify although they were not made by signing.
func FuzzVerifyScheme(f *testing.F) {
	f.Add("stripe", "t=1674087231,v1=3f24c2b0d35da5730a32f9e71ec23eefb9679bab919fe9ef21713df10d54f373", "", "", []byte(contactBody))
	f.Add("svix", "v1,ARw42xaAApl/nxRo+iPGYwSaMQaOwMo2eyH5JBRA+bQ=", "1674087231", commonID, []byte(contactBody))
	f.Add("slack", "v0=,v0=", "-0", "", []byte{})
	f.Add("twilio", "====", "", "", []byte("%"))
	f.Fuzz(func(t *testing.T, name, value, stamp, id string, body []byte) {
		s, ok := signature.LookupScheme(name)
		if !ok {
			return
		}
		secret, err := s.ParseSecret(publishedSecret)
		require.NoError(t, err)
		h := http.Header{s.Headers()[0]: {value}}
		for _, other := range []string{"Svix-Timestamp", "X-Slack-Request-Timestamp"} {
			h[other] = []string{stamp}
		}
		h["Svix-Id"] = []string{id}
		m := signature.SchemeMessage{URL: inbox, ContentType: "application/json", Body: body}
		got, err := s.Verify(h, m, []signature.Secret{secret}, time.Unix(commonUnix, 0), signature.DefaultTolerance)
		if err != nil {
			return
		}
		m.ID, m.Time = got.ID, got.Time
		again := http.Header{}
		require.NoError(t, s.Sign(again, m, []signature.Secret{secret}))
		_, err = s.Verify(again, m, []signature.Secret{secret}, time.Unix(commonUnix, 0), signature.DefaultTolerance)
		require.NoError(t, err)
	})
}
