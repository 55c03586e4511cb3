package conf

import (
	"encoding"
	"errors"
	"io"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// maxSecretFile bounds what is read for a secret: a mistaken path must not fill the memory.
const maxSecretFile = 1 << 20

// The rules for values. They name no value, for it may be a secret in the wrong place.
var (
	errBool     = errors.New("must be true or false")
	errInt      = errors.New("must be a whole number")
	errFloat    = errors.New("must be a number")
	errDuration = errors.New("must be a duration with its unit, such as 250ms, 30s or 24h")
	errItem     = errors.New("must not hold an empty item")
)

// set parses the text into an option's value. On an error the value is left as it was.
func set(v reflect.Value, text string) error {
	switch target := v.Addr().Interface().(type) {
	case *time.Duration:
		return assign(target, text, time.ParseDuration, errDuration)
	case *Bytes:
		return target.UnmarshalText([]byte(text))
	case *Secret:
		return assign(target, text, readSecret, nil)
	case *[]string:
		return assign(target, text, parseList, nil)
	case encoding.TextUnmarshaler:
		return setText(v, text)
	}
	switch v.Kind() { //nolint:exhaustive // collect lets no other kind through
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errBool
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return errInt
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return errFloat
		}
		v.SetFloat(f)
	default:
		v.SetString(text)
	}
	return nil
}

// assign parses the text and stores it; rule, where it is given, replaces the parser's own error.
func assign[T any](target *T, text string, parse func(string) (T, error), rule error) error {
	value, err := parse(text)
	if err != nil {
		if rule != nil {
			return rule
		}
		return err
	}
	*target = value
	return nil
}

// setText parses into a fresh value first, so that a refused text changes nothing.
func setText(v reflect.Value, text string) error {
	fresh := reflect.New(v.Type())
	target, ok := reflect.TypeAssert[encoding.TextUnmarshaler](fresh)
	if !ok {
		return errors.ErrUnsupported
	}
	if err := target.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	v.Set(fresh.Elem())
	return nil
}

// parseList splits at commas; an empty text is an empty list.
func parseList(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	items := strings.Split(text, ",")
	for i, item := range items {
		if items[i] = strings.TrimSpace(item); items[i] == "" {
			return nil, errItem
		}
	}
	return items, nil
}

// readSecret returns the text, or what the file holds when the text is file:/path.
func readSecret(text string) (Secret, error) {
	path, ok := strings.CutPrefix(text, "file:")
	if !ok {
		return Secret(text), nil
	}
	file, err := os.Open(path) //nolint:gosec // the path is the operator's own
	if err != nil {
		return "", errors.New("must name a file that can be read: " + reason(err))
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", errors.New("must name a file that can be read: " + reason(err))
	}
	if len(data) > maxSecretFile {
		return "", errors.New("must name a file of at most 1MiB")
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return "", errors.New("must name a file that is not empty")
	}
	return Secret(secret), nil
}

// reason returns why a file cannot be read, with its path, which is no secret.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		return pathErr.Path + ": " + pathErr.Err.Error()
	}
	return err.Error()
}
