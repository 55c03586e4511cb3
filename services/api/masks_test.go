package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestAMaskMayNameWhatIsInsideAField(t *testing.T) {
	t.Parallel()
	r := setup(t)
	made, err := r.webhooks.CreateWebhook(r.ctx(t), &postriderv1.CreateWebhookRequest{Webhook: &postriderv1.Webhook{
		Url: "https://example.com", EventTypes: []string{"*"}, Profile: "cloudevents",
		Options: &postriderv1.ProfileOptions{CloudeventsMode: "structured", Handshake: "off"},
	}})
	require.NoError(t, err)
	scopes, err := structpb.NewStruct(map[string]any{"project_id": []any{12.0}})
	require.NoError(t, err)
	update := func(w *postriderv1.Webhook, paths ...string) (*postriderv1.Webhook, error) {
		w.Id = made.GetWebhook().GetId()
		resp, err := r.webhooks.UpdateWebhook(r.ctx(t), &postriderv1.UpdateWebhookRequest{Webhook: w, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		return resp.GetWebhook(), err
	}
	// The gateway names each member of an object.
	w, err := update(&postriderv1.Webhook{Scopes: scopes}, "scopes.project_id")
	require.NoError(t, err)
	require.Equal(t, scopes.AsMap(), w.GetScopes().AsMap())
	w, err = update(&postriderv1.Webhook{Options: &postriderv1.ProfileOptions{CloudeventsMode: "binary"}}, "options.cloudevents_mode")
	require.NoError(t, err)
	require.Equal(t, "binary", w.GetOptions().GetCloudeventsMode())
	require.Equal(t, "off", w.GetOptions().GetHandshake(), "what is not named stays")
	w, err = update(&postriderv1.Webhook{}, "options.handshake")
	require.NoError(t, err)
	require.Empty(t, w.GetOptions().GetHandshake())
	_, err = update(&postriderv1.Webhook{}, "options.nothing")
	requireFault(t, err, fault.Invalid, "options.nothing is not a field")
	_, err = update(&postriderv1.Webhook{}, "verification.valid")
	requireFault(t, err, fault.Invalid, "verification.valid of webhook cannot be changed")
	w, err = update(&postriderv1.Webhook{}, "retry_schedule.jitter")
	require.NoError(t, err)
	require.Nil(t, w.GetRetrySchedule())
}
