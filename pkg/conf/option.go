package conf

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// configName is the option that every program has: where its file is.
const configName = "config"

// field is one option and where its value lives.
type field struct {
	Option
	path  []string // the names that make up the YAML key
	value reflect.Value
}

// group is a struct of the configuration that can validate itself, and the prefix of its options.
type group struct {
	prefix string
	value  Validator
}

var (
	durationType    = reflect.TypeFor[time.Duration]()
	bytesType       = reflect.TypeFor[Bytes]()
	secretType      = reflect.TypeFor[Secret]()
	stringsType     = reflect.TypeFor[[]string]()
	unmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// collect returns the options of a configuration, which is a pointer to a struct, and its inner
// structs that validate themselves. A struct that declares its options wrongly is a fault of the
// program, not of whoever configures it: it panics, and does so in the first test that loads it.
func collect(cfg any) ([]field, []group) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("conf: %T is not a pointer to a struct", cfg))
	}
	c := collector{seen: map[string]bool{configName: true, "help": true}}
	c.walk(v.Elem(), nil)
	return c.fields, c.groups
}

// collector gathers options while it walks a configuration.
type collector struct {
	fields []field
	groups []group
	seen   map[string]bool
}

// walk adds the options of one struct.
func (c *collector) walk(v reflect.Value, path []string) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		name, tagged := sf.Tag.Lookup("conf")
		if sf.Type.Kind() == reflect.Struct && sf.IsExported() && (tagged && name == "" || !tagged && sf.Anonymous) {
			c.inline(v.Field(i), path)
			continue
		}
		if !tagged || name == "-" {
			continue
		}
		if !sf.IsExported() || !validName(name) {
			panic(fmt.Sprintf("conf: field %s of %s cannot be the option %q", sf.Name, v.Type(), name))
		}
		c.add(v.Field(i), sf, append(slices.Clone(path), name))
	}
}

// inline adds the options of a struct as if they stood in the one around it.
func (c *collector) inline(v reflect.Value, path []string) {
	if inner, ok := reflect.TypeAssert[Validator](v.Addr()); ok {
		prefix := ""
		if len(path) > 0 {
			prefix = strings.Join(path, "-") + "-"
		}
		c.groups = append(c.groups, group{prefix: prefix, value: inner})
	}
	c.walk(v, path)
}

// add adds one field: an option, or a struct of options.
func (c *collector) add(v reflect.Value, sf reflect.StructField, path []string) {
	name := strings.Join(path, "-")
	kind, ok := typeName(v.Type())
	if !ok && v.Kind() == reflect.Struct {
		if inner, ok := reflect.TypeAssert[Validator](v.Addr()); ok {
			c.groups = append(c.groups, group{prefix: name + "-", value: inner})
		}
		c.walk(v, path)
		return
	}
	if !ok {
		panic(fmt.Sprintf("conf: option %s has a type that cannot be configured: %s", name, v.Type()))
	}
	if c.seen[name] {
		panic("conf: two options are named " + name)
	}
	c.seen[name] = true
	secret := v.Type() == secretType
	f := field{path: path, value: v, Option: Option{
		Name: name, Flag: "--" + name, Env: envName(name), Key: strings.Join(path, "."),
		Type: kind, Help: sf.Tag.Get("help"), Secret: secret,
	}}
	if !secret {
		f.Default = format(v)
	}
	c.fields = append(c.fields, f)
}

// envName returns the environment variable of an option.
func envName(name string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// validName reports whether a name is made of lower case letters, digits and single dashes.
func validName(name string) bool {
	if name == "" || strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") || strings.Contains(name, "--") {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// typeName returns how the help calls a type; false when it cannot be an option.
func typeName(t reflect.Type) (string, bool) {
	switch t {
	case durationType:
		return "duration", true
	case bytesType:
		return "bytes", true
	case secretType:
		return "secret", true
	case stringsType:
		return "list", true
	}
	if reflect.PointerTo(t).Implements(unmarshalerType) {
		return "text", true
	}
	switch t.Kind() { //nolint:exhaustive // every other kind cannot be an option
	case reflect.String:
		return "string", true
	case reflect.Bool:
		return "bool", true
	case reflect.Int, reflect.Int64:
		return "int", true
	case reflect.Float64:
		return "float", true
	default:
		return "", false
	}
}

// format writes a value as one would configure it.
func format(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return formatDuration(value)
	case []string:
		return strings.Join(value, ",")
	case fmt.Stringer:
		return value.String()
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		if err != nil {
			return ""
		}
		return string(text)
	}
	if v.Kind() == reflect.Float64 {
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	}
	return fmt.Sprint(v.Interface())
}

// formatDuration writes 2m instead of 2m0s, and 24h instead of 24h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if d == 0 || d%time.Second != 0 {
		return text
	}
	if d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
