package jsonapi

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what an attribute's values are.
type kind uint8

const (
	kindInteger kind = iota + 1
	kindText
	kindTime
	kindSecret
	kindList
	kindObject
)

// attributeKinds are all attributes of a webhook.
var attributeKinds = map[string]kind{
	"id": kindInteger, "account_id": kindInteger, "name": kindText, "url": kindText, "secret": kindSecret,
	"events": kindList, "scopes": kindObject, "created_at": kindTime, "updated_at": kindTime,
}

// operatorsOf are the operators that a kind knows. A secret is compared as a whole or not at all:
// anything else would let a caller find it letter by letter.
var operatorsOf = map[kind][]string{
	kindInteger: {"eq", "neq", "in", "lt", "lte", "gt", "gte", "exists"},
	kindText:    {"eq", "neq", "in", "lt", "lte", "gt", "gte", "prefix", "suffix", "match", "exists"},
	kindTime:    {"eq", "neq", "in", "lt", "lte", "gt", "gte", "exists"},
	kindSecret:  {"eq"},
	kindList:    {"eq", "neq", "contains", "exists"},
	kindObject:  {"eq", "neq", "exists"},
}

// many are the operators that take several values; all others take one.
var many = []string{"eq", "neq", "in", "contains"}

// condition is one filter, read: filter[attribute__operator]=value.
type condition struct {
	attribute string
	operator  string
	kind      kind
	texts     []string
	integers  []int64
	times     []time.Time
	several   bool // the values were an array, though perhaps of one or none
}

// record is a webhook as filters see it.
type record struct {
	webhookID         string
	id, accountID     int64
	name, url, secret string
	hasSecret         bool
	events            []string
	scopes            []byte // JSON with sorted keys
	created, updated  time.Time
}

// parseCondition reads what stands in the brackets of a filter and its values. An array without
// values is written as one empty value.
func parseCondition(name string, values []string, array bool) (condition, error) {
	attribute, operator, found := strings.Cut(name, "__")
	if !found {
		operator = "eq"
	}
	c := condition{attribute: attribute, operator: operator, several: array}
	var known bool
	if c.kind, known = attributeKinds[attribute]; !known {
		return c, errors.New("there is no attribute " + strconv.Quote(clip(attribute)))
	}
	if !slices.Contains(operatorsOf[c.kind], operator) {
		return c, errors.New("must have one of the operators " + strings.Join(operatorsOf[c.kind], ", "))
	}
	if array {
		if !slices.Contains(many, operator) {
			return c, errors.New("must have one value, without []")
		}
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
	} else if len(values) != 1 {
		return c, errors.New("is given more than once; several values are written with []")
	}
	return c, c.readValues(values)
}

func (c *condition) readValues(values []string) error {
	c.texts = values
	if c.operator == "exists" {
		return nil
	}
	for i, v := range values {
		switch c.kind {
		case kindInteger:
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return errors.New("must be an integer")
			}
			c.integers = append(c.integers, n)
		case kindTime:
			t, err := parseTime(v)
			if err != nil {
				return err
			}
			c.times = append(c.times, t)
		case kindObject:
			text, err := canonical([]byte(v))
			if err != nil {
				return errors.New("must be a JSON object")
			}
			c.texts = slices.Clone(c.texts)
			c.texts[i] = string(text)
		case kindText, kindSecret, kindList:
		}
	}
	return nil
}

// parseTime reads RFC 3339, or a date, which is its first moment in UTC. A "+" that was not
// percent-encoded has become a space.
func parseTime(s string) (time.Time, error) {
	for _, text := range []string{s, strings.ReplaceAll(s, " ", "+")} {
		for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
			if t, err := time.Parse(layout, text); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, errors.New("must be a time such as 2026-11-21T21:00:00Z")
}

// canonical writes a JSON object in the form of record.scopes.
func canonical(raw []byte) ([]byte, error) {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("not an object")
	}
	return json.Marshal(m)
}

// holds reports whether a record meets the condition. Values are compared as they are: "%", "_" and
// "\" stand for themselves. None of the attributes is ever null.
func (c condition) holds(r *record) bool {
	if c.operator == "exists" {
		return c.texts[0] != "" && c.texts[0] != "0" && c.texts[0] != "false"
	}
	switch c.kind {
	case kindInteger:
		value := r.id
		if c.attribute == "account_id" {
			value = r.accountID
		}
		return ordered(c, c.integers, func(v int64) int { return cmp.Compare(value, v) })
	case kindTime:
		value := r.created
		if c.attribute == "updated_at" {
			value = r.updated
		}
		return ordered(c, c.times, value.Compare)
	case kindText:
		value := r.name
		if c.attribute == "url" {
			value = r.url
		}
		return c.holdsText(value)
	case kindSecret:
		return c.holdsSecret(r)
	case kindList:
		return c.holdsList(r.events)
	case kindObject:
		return ordered(c, c.texts, func(v string) int { return bytes.Compare(r.scopes, []byte(v)) })
	}
	return false
}

// ordered is the operators of values that have an order.
func ordered[T any](c condition, values []T, compare func(T) int) bool {
	equal := func(v T) bool { return compare(v) == 0 }
	switch c.operator {
	case "eq", "in":
		return slices.ContainsFunc(values, equal)
	case "neq":
		return !slices.ContainsFunc(values, equal)
	case "lt":
		return compare(values[0]) < 0
	case "lte":
		return compare(values[0]) <= 0
	case "gt":
		return compare(values[0]) > 0
	case "gte":
		return compare(values[0]) >= 0
	}
	return false
}

func (c condition) holdsText(value string) bool {
	switch c.operator {
	case "prefix":
		return strings.HasPrefix(value, c.texts[0])
	case "suffix":
		return strings.HasSuffix(value, c.texts[0])
	case "match":
		return strings.Contains(strings.ToLower(value), strings.ToLower(c.texts[0]))
	}
	return ordered(c, c.texts, func(v string) int { return cmp.Compare(value, v) })
}

// holdsList compares arrays: as a whole, or by what they have in common.
func (c condition) holdsList(value []string) bool {
	switch c.operator {
	case "contains":
		return slices.ContainsFunc(c.texts, func(v string) bool { return slices.Contains(value, v) })
	case "eq":
		return len(c.texts) > 0 && slices.Equal(c.texts, value)
	}
	return len(c.texts) == 0 || !slices.Equal(c.texts, value)
}

func (c condition) holdsSecret(r *record) bool {
	found := 0
	for _, text := range c.texts {
		found |= subtle.ConstantTimeCompare([]byte(text), []byte(r.secret))
	}
	return r.hasSecret && found == 1
}
