package httpapi

import (
	"encoding/json"
	"mime"
	"strconv"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/services/ingest/internal/admission"
)

// payload is what an envelope or a structured CloudEvent says about its data, before the content
// type is known.
type payload struct {
	value   json.RawMessage // of the member data, as it stands
	bytes   []byte          // of the member data_base64
	encoded bool            // there was a data_base64
}

// parseEnvelope reads the JSON envelope: {"type": ..., "data": ..., ...}. Names are those of the
// protos; lowerCamelCase is taken too, as protojson does.
func parseEnvelope(body []byte) (*incoming, error) {
	in := &incoming{event: &postriderv1.EventInput{}}
	ev := in.event
	var data payload
	err := members(body, func(name string, value json.RawMessage) {
		switch name {
		case "type":
			in.text("type", value, &ev.Type)
		case "id":
			in.text("id", value, &ev.Id)
		case "source":
			in.text("source", value, &ev.Source)
		case "time":
			in.time("time", value, &ev.Time)
		case "labels":
			in.texts("labels", value, &ev.Labels)
		case "extensions":
			in.texts("extensions", value, &ev.Extensions)
		case "content_type", "contentType":
			in.text("content_type", value, &ev.ContentType)
		case "ordering_key", "orderingKey":
			in.text("ordering_key", value, &ev.OrderingKey)
		case "deliver_at", "deliverAt":
			in.time("deliver_at", value, &ev.DeliverAt)
		case "idempotency_key", "idempotencyKey":
			in.text("idempotency_key", value, &in.key)
		case "account_id", "accountId":
			in.text("account_id", value, &in.account)
		case "data":
			data.value = value
		case "data_base64", "dataBase64":
			data.encoded = !isNull(value)
			in.base64("data_base64", value, &data.bytes)
		default:
			in.breaks("["+strconv.Quote(name)+"]", "is not a member of the envelope")
		}
	})
	if err != nil {
		return nil, err
	}
	if data.value == nil && !data.encoded {
		in.breaks("data", "is required, or data_base64")
		return in, nil
	}
	in.data(&data, "content_type")
	return in, nil
}

// data sets the event's data. JSON stands in the member as it is. Text of another type stands
// there as a string, whose content is the data; bytes stand in data_base64.
func (in *incoming) data(p *payload, contentTypeField string) {
	switch {
	case p.value != nil && p.encoded:
		in.breaks("data_base64", "must not stand beside data")
	case p.encoded:
		in.event.Data = p.bytes
	case p.value == nil:
	case dataIsJSON(in.event.GetContentType()):
		in.event.Data = p.value
	case p.value[0] == '"':
		var text string
		in.text("data", p.value, &text)
		in.event.Data = []byte(text)
	default:
		in.breaks("data", "must be a string, because "+contentTypeField+" is not JSON")
	}
}

// dataIsJSON reports whether a content type, or its absence, says that data is JSON.
func dataIsJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && admission.IsJSON(media)
}
