package profile_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/profile"
)

func cloudEvent(mode string) *profile.Input {
	in := fitting("cloudevents")
	in.Webhook.Options = &postriderv1.ProfileOptions{CloudeventsMode: mode}
	in.Delivery.EventSource, in.Delivery.EventGivenId = "https://label.example/ö", "a b%\"c"
	in.Delivery.Extensions = map[string]string{"subject": "sub<é>\u2028", "dataschema": "https://s.example", "id": "evil", "ext1": "x"}
	in.Delivery.EventTime = timestamppb.New(time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC))
	return in
}

func TestCloudEventsInBinaryMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "binary"} {
		in := cloudEvent(mode)
		in.Delivery.ContentType, in.Data = "text/xml", []byte("<a/>\n")
		r := sent(t, in, time.Unix(1, 0))
		require.Equal(t, "<a/>\n", string(r.Body))
		for header, want := range map[string]string{
			"Content-Type": "text/xml", "Ce-Specversion": "1.0", "Ce-Id": "a%20b%25%22c", "Ce-Source": "https://label.example/%C3%B6",
			"Ce-Type": "release.live", "Ce-Time": "2018-04-05T17:31:00Z", "Ce-Subject": "sub<%C3%A9>%E2%80%A8", "Ce-Dataschema": "https://s.example", "Ce-Ext1": "x",
		} {
			require.Equal(t, []string{want}, r.Header[header], header)
		}
		require.NotContains(t, r.Header, "Ce-Datacontenttype")
		require.NotContains(t, r.Header, "Webhook-Request-Origin")
	}
	in := fitting("cloudevents")
	in.Delivery.AccountId = "acc_1"
	r := sent(t, in, time.Unix(1, 0))
	require.Equal(t, "evt_1234567890", r.Header.Get("Ce-Id"))
	require.Equal(t, "/accounts/acc_1", r.Header.Get("Ce-Source"))
	w := fitting("cloudevents").Webhook
	w.Headers = map[string]string{"ce-x": "1"}
	require.Len(t, lookup(t, "cloudevents").ValidateWebhook(w), 1)
}

func TestCloudEventsInStructuredMode(t *testing.T) {
	t.Parallel()
	const head = `{"specversion":"1.0","id":"a b%\"c","source":"https://label.example/ö","type":"release.live","time":"2018-04-05T17:31:00Z",` +
		`"dataschema":"https://s.example","ext1":"x","subject":"sub<é>\u2028"`
	for name, tt := range map[string]struct{ contentType, data, rest string }{
		"JSON, byte for byte":       {"application/json", `{"b":1.0, "a":"\u00e9"}`, `,"datacontenttype":"application/json","data":{"b":1.0, "a":"\u00e9"}}`},
		"a type of JSON":            {"application/vnd.api+json; charset=utf-8", `[1]`, `,"datacontenttype":"application/vnd.api+json; charset=utf-8","data":[1]}`},
		"without a type":            {"", `1`, `,"datacontenttype":"application/json","data":1}`},
		"XML, in base64":            {"text/xml", `<a/>`, `,"datacontenttype":"text/xml","data_base64":"PGEvPg=="}`},
		"what is no JSON after all": {"application/json", "\xff", `,"datacontenttype":"application/json","data_base64":"/w=="}`},
		"no data":                   {"application/json", "", `}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := cloudEvent("structured")
			in.Delivery.ContentType, in.Data = tt.contentType, []byte(tt.data)
			r := sent(t, in, time.Unix(1, 0))
			require.Equal(t, head+tt.rest, string(r.Body))
			require.True(t, json.Valid(r.Body))
			require.Equal(t, "application/cloudevents+json", r.Header.Get("Content-Type"))
			require.NotContains(t, r.Header, "Ce-Id")
		})
	}
}

func TestConsentIsToldWithEveryDelivery(t *testing.T) {
	t.Parallel()
	in := cloudEvent("")
	in.Webhook.Handshake = &postriderv1.Handshake{Consented: true, Origin: "postrider.example", AllowedRate: 90}
	require.NotContains(t, sent(t, in, time.Unix(1, 0)).Header, "Webhook-Request-Origin", "the handshake is off")
	require.Zero(t, profile.AllowedRate(in.Webhook))
	in.Webhook.Options.Handshake = "required"
	require.Equal(t, "postrider.example", sent(t, in, time.Unix(1, 0)).Header.Get("WebHook-Request-Origin"))
	require.InDelta(t, 1.5, profile.AllowedRate(in.Webhook), 1e-9)
	in.Webhook.Handshake.Consented = false
	require.NotContains(t, sent(t, in, time.Unix(1, 0)).Header, "Webhook-Request-Origin")
}
