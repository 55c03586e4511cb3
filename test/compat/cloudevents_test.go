//go:build e2e

package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/receivertest"
	"github.com/postrider/postrider/test/system"
)

// The SDK of CloudEvents reads in either mode what was published, whatever characters it holds.
func TestCloudEventsSDKReadsDeliveries(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, mode := range []string{"binary", "structured"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			a := s.NewAccount(t)
			port, verdicts := system.NodeReceiver(t, "cloudevents.js", "")
			a.Webhook(t, &postriderv1.Webhook{
				Url: fmt.Sprintf("http://127.0.0.1:%d/events", port), Profile: "cloudevents", EventTypes: all,
				Options: &postriderv1.ProfileOptions{CloudeventsMode: mode},
			})
			for name, e := range map[string]*postriderv1.EventInput{
				"whole": {
					Type: "release.live", Id: "a-1", Source: "https://label.example/catalogue", Data: []byte(`{"b":1,"a":"é <&>"}`),
					Time: timestamppb.New(time.Date(2018, 4, 5, 17, 31, 0, 0, time.UTC)), Extensions: map[string]string{"subject": "release/29", "ext1": "100 % \"x\""},
				},
				"plain": {Type: "release.live", Data: []byte(`[1,2]`)},
				"text":  {Type: "release.live", Data: []byte("hello"), ContentType: "text/plain"},
			} {
				id := a.PublishEvent(t, e).GetEventId()
				v := system.Next(t, verdicts)
				require.Equal(t, http.StatusOK, v.Status, "%s: %s", name, v.Error)
				var got struct {
					ID, Source, Type, SpecVersion, Time, Subject, Ext1 string
					DataContentType                                    string `json:"datacontenttype"`
					Data                                               json.RawMessage
					DataBase64                                         []byte `json:"data_base64"`
				}
				require.NoError(t, json.Unmarshal(v.Body, &got), "%s", v.Body)
				require.Equal(t, "1.0", got.SpecVersion)
				require.Equal(t, "release.live", got.Type)
				switch name {
				case "whole":
					require.Equal(t, "a-1", got.ID)
					require.Equal(t, "https://label.example/catalogue", got.Source)
					require.Equal(t, "release/29", got.Subject)
					at, err := time.Parse(time.RFC3339, got.Time)
					require.NoError(t, err)
					require.Equal(t, e.GetTime().AsTime(), at.UTC())
					require.JSONEq(t, string(e.GetData()), string(got.Data))
				case "plain":
					require.Equal(t, id, got.ID)
					require.NotEmpty(t, got.Source)
					require.JSONEq(t, `[1,2]`, string(got.Data))
				case "text":
					require.Equal(t, "text/plain", got.DataContentType)
				}
			}
		})
	}
}

// Bytes and headers of either mode, as the specification has them.
func TestCloudEventsOnTheWire(t *testing.T) {
	t.Parallel()
	a := open(t).NewAccount(t)
	r := receivertest.New(t)
	a.Webhook(t, &postriderv1.Webhook{Url: r.URL + "/binary", Profile: "cloudevents", EventTypes: all})
	a.Webhook(t, &postriderv1.Webhook{
		Url: r.URL + "/structured", Profile: "cloudevents", EventTypes: all, Options: &postriderv1.ProfileOptions{CloudeventsMode: "structured"},
	})
	const data = `{ "n" : 1.0, "s":"\u00e9\/" }`
	a.PublishEvent(t, &postriderv1.EventInput{Type: "release.live", Id: `1%"2`, Source: "/catalogue", Extensions: map[string]string{"subject": "ü 1"}, Data: []byte(data), ContentType: "application/vnd.label+json"})
	for range 2 {
		got := r.Next(t)
		if got.Path == "/structured" {
			require.Equal(t, "application/cloudevents+json", got.Header.Get("Content-Type"))
			require.Contains(t, string(got.Body), `"datacontenttype":"application/vnd.label+json","data":`+data+`}`)
			continue
		}
		whole := data
		require.Equal(t, whole, string(got.Body))
		require.Equal(t, "application/vnd.label+json", got.Header.Get("Content-Type"))
		require.Equal(t, "1%25%222", got.Header.Get("ce-id"))
		require.Equal(t, "%C3%BC%201", got.Header.Get("ce-subject"))
		require.Equal(t, "/catalogue", got.Header.Get("ce-source"))
		require.NotContains(t, got.Header, "Ce-Datacontenttype")
	}
}
