package jsonapi

import "strings"

// maxKeyDepth bounds the brackets of a parameter's name.
const maxKeyDepth = 4

// splitKey reads the name of a query parameter as Rails, PHP and qs write it: "page[number]" is
// page and number, "filter[id][]" is filter, id and the empty string. False if the brackets do not
// match.
func splitKey(name string) (base string, path []string, ok bool) {
	base, rest, found := strings.Cut(name, "[")
	if !found {
		return name, nil, !strings.Contains(name, "]")
	}
	if strings.Contains(base, "]") {
		return "", nil, false
	}
	for {
		var part string
		part, rest, found = strings.Cut(rest, "]")
		if !found || strings.Contains(part, "[") || len(path) == maxKeyDepth {
			return "", nil, false
		}
		path = append(path, part)
		if rest == "" {
			return base, path, true
		}
		if rest[0] != '[' {
			return "", nil, false
		}
		rest = rest[1:]
	}
}

// parameter is how a name is written in an error: the inverse of splitKey.
func parameter(base string, path ...string) string {
	var b strings.Builder
	b.WriteString(base)
	for _, part := range path {
		b.WriteString("[" + part + "]")
	}
	return b.String()
}
