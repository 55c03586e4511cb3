package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// parseCatalogue reads a catalogue of event types. What the API sets itself is left out, so that a
// catalogue that was listed can be imported elsewhere.
func parseCatalogue(text []byte) ([]*postriderv1.EventType, error) {
	var file struct {
		EventTypes []map[string]json.RawMessage `json:"event_types"`
		NextPage   string                       `json:"next_page_token"`
	}
	if err := decode(text, &file); err != nil {
		return nil, fmt.Errorf("is no catalogue: %w", err)
	}
	if len(file.EventTypes) == 0 {
		return nil, errors.New("has no event_types")
	}
	out := make([]*postriderv1.EventType, len(file.EventTypes))
	for i, entry := range file.EventTypes {
		e, err := parseEventType(entry)
		if err != nil {
			return nil, fmt.Errorf("event_types[%d]: %w", i, err)
		}
		out[i] = e
	}
	return out, nil
}

func parseEventType(entry map[string]json.RawMessage) (*postriderv1.EventType, error) {
	for _, name := range []string{"example", "schema"} {
		value := bytes.TrimSpace(entry[name])
		if len(value) == 0 || value[0] == '"' || bytes.Equal(value, []byte("null")) {
			continue
		}
		text, err := json.Marshal(base64.StdEncoding.EncodeToString(value))
		if err != nil {
			return nil, err
		}
		entry[name] = text
	}
	if policy, ok := schemaPolicies[strings.Trim(string(entry["schema_policy"]), `"`)]; ok {
		entry["schema_policy"] = json.RawMessage(strconv.Itoa(int(policy)))
	}
	for _, name := range []string{"account_id", "create_time", "update_time", "etag", "schema_version"} {
		delete(entry, name)
	}
	text, err := json.Marshal(entry)
	if err != nil {
		return nil, err
	}
	e := &postriderv1.EventType{}
	if err := protojson.Unmarshal(text, e); err != nil {
		return nil, err
	}
	if e.GetName() == "" {
		return nil, errors.New("name is missing")
	}
	return e, nil
}
