package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxInput bounds what is read from a file or the input for one request.
const maxInput = 20 << 20

// data is a value of a flag that can be large: the text itself, @file, or - for the input.
func (p *program) data(flag, value string) ([]byte, error) {
	switch {
	case value == "-":
		return readAll(flag, "the input", p.In)
	case strings.HasPrefix(value, "@"):
		return readFile(flag, value[1:])
	}
	return []byte(value), nil
}

func readFile(flag, path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, usagef("%s: %w", flag, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	return readAll(flag, path, f)
}

func readAll(flag, name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	switch {
	case err != nil:
		return nil, usagef("%s: read %s: %w", flag, name, err)
	case len(text) > maxInput:
		return nil, usagef("%s: %s is larger than %d MiB", flag, name, maxInput>>20)
	}
	return text, nil
}

// secret is a value that need not stand on the command line: file:/path reads it from a file.
func secret(flag, value string) (string, error) {
	path, ok := strings.CutPrefix(value, "file:")
	if !ok {
		return value, nil
	}
	text, err := readFile(flag, path)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}

// keyValues reads a flag that was given as key=value, any number of times.
func keyValues(flag, separator string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := make(map[string]string, len(list))
	for _, item := range list {
		k, v, ok := strings.Cut(item, separator)
		k = strings.TrimSpace(k)
		if !ok || k == "" {
			return nil, usagef("%s: %q is not name%svalue", flag, item, separator)
		}
		if _, twice := out[k]; twice {
			return nil, usagef("%s: %q is given twice", flag, k)
		}
		if separator == ":" {
			v = strings.TrimSpace(v)
		}
		out[k] = v
	}
	return out, nil
}

// moment reads a time: RFC 3339, or a duration from now such as +10m or -1h; empty is absent.
func moment(flag, value string, now time.Time) (*timestamppb.Timestamp, error) {
	if value == "" {
		return nil, nil //nolint:nilnil // an absent time is what the API calls nil
	}
	if value[0] == '+' || value[0] == '-' {
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, usagef("%s: %q is no duration such as +10m or -1h", flag, value)
		}
		return timestamppb.New(now.Add(d)), nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return nil, usagef("%s: %q is no time such as 2026-11-21T18:00:00Z, nor a duration such as +10m", flag, value)
	}
	return timestamppb.New(t), nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// decode reads one JSON value, all of it, without members that nobody knows.
func decode(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return nil
}

// choice reads a flag that is one word of a few. The words are those of an enum, without prefix.
func choice(flag, value, prefix string, values map[string]int32) (int32, error) {
	if value == "" {
		return 0, nil
	}
	if n, ok := values[prefix+strings.ToUpper(value)]; ok && n != 0 {
		return n, nil
	}
	return 0, usagef("%s must be %s, not %q", flag, strings.Join(words(prefix, values), ", "), value)
}

// words are the words that choice takes.
func words(prefix string, values map[string]int32) []string {
	out := make([]string, len(values))
	for name, n := range values {
		out[n] = strings.ToLower(strings.TrimPrefix(name, prefix))
	}
	return out[1:] // without "unspecified"
}

// maxPage is the largest page that the API gives.
const maxPage = 1000

// pages reads pages until limit items are there, or all for 0. It returns the token of what is left.
func pages[T any](limit int, fetch func(size int32, token string) ([]T, string, error)) ([]T, string, error) {
	if limit < 0 {
		return nil, "", usagef("--limit must not be negative")
	}
	var all []T
	token := ""
	for {
		size := maxPage
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		page, next, err := fetch(int32(size), token)
		if err != nil {
			return nil, "", err
		}
		all = append(all, page...)
		if next == "" || limit > 0 && len(all) >= limit {
			return all, next, nil
		}
		token = next
	}
}

// more tells people that a list goes on.
func (p *program) more(shown int, token string) {
	if token != "" && p.globals.output == outputTable {
		p.note("the first %d are shown; --limit 0 shows all", shown)
	}
}

// file is the text of a file that an argument names, - for the input.
func (p *program) file(argument, path string) ([]byte, error) {
	if path == "-" {
		return readAll(argument, "the input", p.In)
	}
	return readFile(argument, path)
}
