package conf

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile sets options from a YAML file and notes what is wrong with it, by line.
func (l *loader) readFile(path string) {
	data, err := os.ReadFile(path) //nolint:gosec // the path is the operator's own
	if err != nil {
		l.note(fmt.Sprintf("--%s (%s): must name a file that can be read: %s", configName, envName(configName), reason(err)))
		return
	}
	l.readYAML(path, data)
}

// readYAML sets options from the text of a YAML file.
func (l *loader) readYAML(path string, data []byte) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		l.note(path + ": must be YAML: " + err.Error())
		return
	}
	if len(doc.Content) == 0 {
		return // an empty file sets nothing
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return
	}
	if root.Kind != yaml.MappingNode {
		l.note(at(path, root) + "must be a mapping of options")
		return
	}
	r := fileReader{l: l, path: path, seen: map[string]int{}}
	r.mapping(root, nil)
}

// fileReader walks one file.
type fileReader struct {
	l    *loader
	path string
	seen map[string]int // option to the line that set it
}

// at begins a fault with the place it stands at.
func at(path string, n *yaml.Node) string { return path + ":" + strconv.Itoa(n.Line) + ": " }

// mapping reads the entries of a mapping that stands at the key.
func (r *fileReader) mapping(n *yaml.Node, key []string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || v.Kind == yaml.AliasNode || k.Tag == "!!merge" {
			r.l.note(at(r.path, k) + "aliases and keys that are no text cannot be used")
			continue
		}
		r.entry(k, v, append(append([]string(nil), key...), k.Value))
	}
}

// entry reads one entry: an option, or a mapping that holds some.
func (r *fileReader) entry(k, v *yaml.Node, key []string) {
	name := strings.Join(key, "-")
	f, prefix := r.find(name)
	switch {
	case f == nil && v.Kind == yaml.MappingNode && prefix:
		r.mapping(v, key)
	case f == nil && prefix && v.Kind == yaml.ScalarNode && v.Tag == "!!null":
		return // a section without entries sets nothing
	case f == nil:
		r.l.note(at(r.path, k) + strings.Join(key, ".") + ": there is no such option" +
			r.l.suggest(name, "", func(o Option) string { return o.Key }))
	case r.seen[f.Name] > 0:
		r.l.note(fmt.Sprintf("%s%s: is set already in line %d", at(r.path, k), f.Key, r.seen[f.Name]))
	default:
		r.seen[f.Name] = k.Line
		r.option(f, v)
	}
}

// find returns the option of the name, and whether the name begins those of others.
func (r *fileReader) find(name string) (f *field, prefix bool) {
	for i := range r.l.fields {
		switch o := &r.l.fields[i]; {
		case o.Name == name:
			f = o
		case strings.HasPrefix(o.Name, name+"-"):
			prefix = true
		}
	}
	return f, prefix
}

// option gives an option what the file says.
func (r *fileReader) option(f *field, v *yaml.Node) {
	text, err := nodeText(f, v)
	if err == nil && f.Type == "list" && v.Kind == yaml.SequenceNode {
		err = r.list(f, v)
	} else if err == nil {
		err = set(f.value, text)
	}
	if err != nil {
		r.l.refused[f.Name] = true
		r.l.note(fmt.Sprintf("%s%s (%s, %s): %s", at(r.path, v), f.Key, f.Flag, f.Env, err))
	}
}

// nodeText returns the text of a scalar; a sequence, which only a list takes, has none.
func nodeText(f *field, v *yaml.Node) (string, error) {
	switch {
	case v.Kind == yaml.SequenceNode && f.Type == "list":
		return "", nil
	case v.Kind != yaml.ScalarNode:
		return "", errors.New("must be a single value")
	case v.Tag == "!!null":
		return "", errors.New("must have a value, or be left out")
	}
	return v.Value, nil
}

// list gives a list option the items of a sequence; unlike in a flag, items may hold commas.
func (r *fileReader) list(f *field, v *yaml.Node) error {
	items := make([]string, 0, len(v.Content))
	for _, item := range v.Content {
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || item.Value == "" {
			return errItem
		}
		items = append(items, item.Value)
	}
	target, ok := reflect.TypeAssert[*[]string](f.value.Addr())
	if !ok {
		return errors.ErrUnsupported
	}
	*target = items
	return nil
}
