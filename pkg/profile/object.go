package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// object is the event's data as one JSON object, without the whitespace around it.
func object(data []byte) ([]byte, error) {
	data = bytes.Trim(data, " \t\r\n") // JSON's whitespace (RFC 8259), no other
	if len(data) == 0 || data[0] != '{' || !json.Valid(data) {
		return nil, fmt.Errorf("%w: data must be a JSON object", ErrUnrenderable)
	}
	return data, nil
}

// member is one of an object's, byte for byte.
type member struct {
	name  string // decoded
	text  []byte // name and value
	value []byte
}

// membersOf takes a valid object apart.
func membersOf(data []byte) ([]member, error) {
	var out []member
	d := json.NewDecoder(bytes.NewReader(data))
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnrenderable, err)
	}
	for d.More() {
		before := d.InputOffset()
		token, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnrenderable, err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnrenderable, err)
		}
		name, _ := token.(string)
		text := bytes.TrimLeft(data[before:d.InputOffset()], " \t\r\n,")
		out = append(out, member{name, text, value})
	}
	return out, nil
}

// jsonText is a text as JSON.
func jsonText(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a text can always be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
