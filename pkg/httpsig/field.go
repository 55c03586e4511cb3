package httpsig

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/dunglas/httpsfv"
)

// fieldKind is the type of a structured field.
type fieldKind int

const (
	unstructured fieldKind = iota
	dictionary
	list
	item
)

// kindOf knows the structured fields that may carry `sf`, whose strict form depends on their type.
func kindOf(name string) fieldKind {
	switch name {
	case "accept-signature", "content-digest", "priority", "repr-digest", "signature", "signature-agent",
		"signature-input", "want-content-digest", "want-repr-digest":
		return dictionary
	case "cache-status", "client-cert-chain", "proxy-status":
		return list
	case "client-cert", "idempotency-key":
		return item
	}
	return unstructured
}

// field is the value of a component that is a field (RFC 9421, section 2.1).
func (c *component) field(h http.Header) (string, error) {
	values, err := lines(h, c.name)
	if err != nil {
		return "", err
	}
	switch {
	case c.bs:
		for i, v := range values {
			values[i] = ":" + base64.StdEncoding.EncodeToString([]byte(v)) + ":"
		}
		return strings.Join(values, ", "), nil
	case c.hasKey:
		return c.dictionaryMember(values)
	case c.sf:
		return c.strict(values)
	}
	value := strings.Join(values, ", ")
	for i := range len(value) {
		if value[i] >= 0x80 {
			return "", fmt.Errorf("%w: field %s is not ASCII, it can only be signed with bs", ErrMessage, c.name)
		}
	}
	return value, nil
}

// dictionaryMember is the strict form of one member of a dictionary.
func (c *component) dictionaryMember(values []string) (string, error) {
	d, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return "", fmt.Errorf("%w: field %s is no dictionary: %w", ErrMessage, c.name, err)
	}
	member, ok := d.Get(c.key)
	if !ok {
		return "", fmt.Errorf("%w: field %s has no member %.64q", ErrMessage, c.name, c.key)
	}
	return c.marshal(member)
}

// strict is the strict form of a structured field.
func (c *component) strict(values []string) (string, error) {
	var v httpsfv.StructuredFieldValue
	var err error
	switch kindOf(c.name) {
	case dictionary:
		v, err = httpsfv.UnmarshalDictionary(values)
	case list:
		v, err = httpsfv.UnmarshalList(values)
	case item:
		v, err = httpsfv.UnmarshalItem(values)
	case unstructured:
		return "", fmt.Errorf("%w: the type of field %s as a structured field", ErrUnsupported, c.name)
	}
	if err != nil {
		return "", fmt.Errorf("%w: field %s is not well-formed: %w", ErrMessage, c.name, err)
	}
	return c.marshal(v)
}

func (c *component) marshal(v httpsfv.StructuredFieldValue) (string, error) {
	text, err := httpsfv.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("%w: field %s cannot be written strictly: %w", ErrMessage, c.name, err)
	}
	return text, nil
}
