package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// honoured are the types by the kinds that they are read from.
var honoured = map[string]reflect.Type{
	"Deployment":     reflect.TypeFor[Deployment](),
	"ConfigMap":      reflect.TypeFor[ConfigMap](),
	"Service":        reflect.TypeFor[Service](),
	"Certificate":    reflect.TypeFor[Certificate](),
	"ExternalSecret": reflect.TypeFor[ExternalSecret](),
	"PodMonitor":     reflect.TypeFor[PodMonitor](),
}

// coverage collects what no type reads and no entry of the table names, and what the table names
// for nothing.
type coverage struct {
	known  map[string]map[string]bool // by kind
	used   map[Left]bool
	faults []string
}

func newCoverage() *coverage {
	c := &coverage{known: map[string]map[string]bool{}, used: map[Left]bool{}}
	for kind, t := range honoured {
		c.known[kind] = map[string]bool{"apiVersion": true, "kind": true}
		walk(t, "", c.known[kind])
	}
	return c
}

var decodes = reflect.TypeFor[json.Unmarshaler]()

// walk adds the paths of everything that a type reads. Lists have [] in them, and maps .*.
func walk(t reflect.Type, path string, into map[string]bool) {
	switch {
	case reflect.PointerTo(t).Implements(decodes):
		into[path] = true
	case t.Kind() == reflect.Pointer:
		walk(t.Elem(), path, into)
	case t.Kind() == reflect.Struct:
		for f := range t.Fields() {
			walk(f.Type, join(path, f.Tag.Get("json")), into)
		}
	case t.Kind() == reflect.Slice:
		walk(t.Elem(), path+"[]", into)
	case t.Kind() == reflect.Map:
		walk(t.Elem(), path+".*", into)
	default:
		into[path] = true
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (c *coverage) object(o map[string]any) {
	kind, name := names(o)
	if c.left(kind, "") {
		return
	}
	known, ok := c.known[kind]
	if !ok {
		c.faults = append(c.faults, fmt.Sprintf("%s %s: nobody honours this kind", kind, name))
		return
	}
	c.value(kind, name, "", o, known)
}

func (c *coverage) value(kind, name, path string, value any, known map[string]bool) {
	if path != "" && c.left(kind, path) {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			at := join(path, key)
			if known[path+".*"] {
				at = path + ".*"
			}
			c.value(kind, name, at, inner, known)
		}
	case []any:
		for _, inner := range v {
			c.value(kind, name, path+"[]", inner, known)
		}
	default:
		if !known[path] {
			c.faults = append(c.faults, fmt.Sprintf("%s %s: nobody honours %s", kind, name, path))
		}
	}
}

// left reports whether the table leaves a path to the cluster.
func (c *coverage) left(kind, path string) bool {
	for entry := range Elsewhere {
		if (entry.Kind == kind || entry.Kind == "*") && entry.Path == path {
			c.used[entry] = true
			return true
		}
	}
	return false
}

func (c *coverage) list() []string {
	for entry := range Elsewhere {
		if !c.used[entry] {
			c.faults = append(c.faults, strings.TrimSpace(fmt.Sprintf("elsewhere.go lists %s %s, which no manifest has", entry.Kind, entry.Path)))
		}
	}
	slices.Sort(c.faults)
	return slices.Compact(c.faults)
}

// Table is what is left to a cluster, a line each.
func Table() []string {
	var out []string
	for entry, why := range Elsewhere {
		out = append(out, fmt.Sprintf("%-24s %-58s %s", entry.Kind, entry.Path, why))
	}
	slices.Sort(out)
	return out
}

// Kinds are those that the runner reads.
func Kinds() []string { return slices.Sorted(maps.Keys(honoured)) }
