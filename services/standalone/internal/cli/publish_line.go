package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// eventLine is one line of a file of events.
type eventLine struct {
	Type           string            `json:"type"`
	Data           json.RawMessage   `json:"data"`
	DataBase64     []byte            `json:"data_base64"`
	ContentType    string            `json:"content_type"`
	ID             string            `json:"id"`
	Source         string            `json:"source"`
	Time           *time.Time        `json:"time"`
	Labels         map[string]string `json:"labels"`
	OrderingKey    string            `json:"ordering_key"`
	DeliverAt      *time.Time        `json:"deliver_at"`
	Extensions     map[string]string `json:"extensions"`
	IdempotencyKey string            `json:"idempotency_key"`
}

// parseLine reads one event. The bytes of its data stay as they are written.
func parseLine(text []byte) (*postriderv1.PublishEventRequest, error) {
	var l eventLine
	if err := decode(text, &l); err != nil {
		return nil, fmt.Errorf("is no event: %w", err)
	}
	if l.Data != nil && l.DataBase64 != nil {
		return nil, errors.New("has both data and data_base64")
	}
	data := []byte(l.Data)
	switch {
	case l.DataBase64 != nil:
		data = l.DataBase64
	case l.Data == nil:
		data = []byte("{}")
	}
	return &postriderv1.PublishEventRequest{
		IdempotencyKey: l.IdempotencyKey,
		Event: &postriderv1.EventInput{
			Id: l.ID, Source: l.Source, Type: l.Type, Time: timeOf(l.Time), Labels: l.Labels, ContentType: l.ContentType,
			Data: data, OrderingKey: l.OrderingKey, DeliverAt: timeOf(l.DeliverAt), Extensions: l.Extensions,
		},
	}, nil
}

func timeOf(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
