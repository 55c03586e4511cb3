package match

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// Attributes is the event as patterns, scopes and filters see it. It decodes data once, when a
// filter first asks for it, so one *Attributes serves all filters of an event. It is not safe for
// concurrent use.
type Attributes struct {
	// ID is event.id.
	ID string
	// Type is event.type.
	Type string
	// Source is event.source.
	Source string
	// Time is event.time.
	Time time.Time
	// Labels is event.labels.
	Labels map[string]string
	// ContentType is the media type of the data. It does not decide anything: data are JSON if
	// they decode as JSON.
	ContentType string
	// Data gives the payload. It is called at most once, and only if a filter asks for data.
	Data func() []byte

	decoded   bool
	data      any
	decodeErr error
	// asked is set when the running evaluation asked for data.
	asked bool
}

// activation is Attributes as CEL asks for them.
type activation Attributes

var _ cel.Activation = (*activation)(nil)

// ResolveName gives CEL the value of a name.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case varID:
		return a.ID, true
	case varType:
		return a.Type, true
	case varSource:
		return a.Source, true
	case varTime:
		return a.Time, true
	case varLabels:
		if a.Labels == nil {
			return map[string]string{}, true
		}
		return a.Labels, true
	case varData:
		return a.resolveData(), true
	}
	return nil, false
}

// Parent tells CEL that there are no names but these.
func (a *activation) Parent() cel.Activation { return nil }

func (a *activation) resolveData() any {
	a.asked = true
	if !a.decoded {
		a.decoded = true
		a.data, a.decodeErr = a.decode()
	}
	if a.decodeErr != nil {
		return types.WrapErr(a.decodeErr)
	}
	return a.data
}

func (a *activation) decode() (any, error) {
	if a.Data == nil {
		return nil, errors.New("data is not JSON: there is none")
	}
	d := json.NewDecoder(bytes.NewReader(a.Data()))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("data is not JSON: it is empty")
		}
		return nil, fmt.Errorf("data is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data is not JSON: something follows the value")
	}
	return number(v), nil
}

// number replaces each json.Number in v, in place, by what CEL shall see.
func number(v any) any {
	switch v := v.(type) {
	case json.Number:
		return celNumber(string(v))
	case map[string]any:
		for k, item := range v {
			switch item.(type) {
			case json.Number, map[string]any, []any:
				v[k] = number(item)
			}
		}
	case []any:
		for i, item := range v {
			v[i] = number(item)
		}
	}
	return v
}

// celNumber is a double, as CEL defines JSON numbers, unless it is an integer that a double would
// round: then it is an int or uint, so that large ids compare exactly. A number that is too large
// for all of them is infinite, as in JavaScript.
func celNumber(s string) any {
	f, _ := strconv.ParseFloat(s, 64) // on overflow, f is the infinity that we want
	if f > -exact && f < exact {
		return f
	}
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		if !holds(f, s) {
			return i
		}
	} else if u, err := strconv.ParseUint(s, 10, 64); err == nil && !holds(f, s) {
		return u
	}
	return f
}

// exact is the bound below which a double holds every integer.
const exact = 1 << 53

// holds reports whether f is exactly the integer that s spells.
func holds(f float64, s string) bool {
	want, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return false
	}
	got, accuracy := big.NewFloat(f).Int(nil)
	return accuracy == big.Exact && got.Cmp(want) == 0
}
