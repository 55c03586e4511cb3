// Package composefile reads docker-compose.yml as Compose does, by its own library, and fails on
// whatever in it is neither read by a type of this package nor listed in Elsewhere.
package composefile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

// Load reads a compose file with the variables of an .env file and of no other environment. All
// profiles are in it.
func Load(ctx context.Context, path, env string) (*File, error) {
	opts, err := cli.NewProjectOptions([]string{path}, cli.WithEnvFiles(env), cli.WithDotEnv, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	project, err := opts.LoadProject(ctx)
	if err != nil {
		return nil, err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return Read(text)
}

// Read reads what `docker compose config --format json` prints.
func Read(text []byte) (*File, error) {
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	used := map[string]bool{}
	leave(all, "", used)
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(Elsewhere)) {
		if !used[path] {
			errs = append(errs, fmt.Errorf("elsewhere.go lists %s, which the file does not have", path))
		}
	}
	f := &File{Services: map[string]*Service{}}
	services, _ := all["services"].(map[string]any) // the library has checked that it is one
	for name, value := range services {
		s := &Service{Name: name}
		if err := honour(value, s); err != nil {
			errs = append(errs, fmt.Errorf("service %s: nobody honours it: %w", name, err))
			continue
		}
		errs = append(errs, s.refusals())
		f.Services[name] = s
	}
	delete(all, "services")
	if err := honour(all, f); err != nil {
		errs = append(errs, fmt.Errorf("nobody honours the file: %w", err))
	}
	return f, errors.Join(errs...)
}

// honour decodes a value into a type that must know all of it.
func honour(value, into any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// leave takes away what is left to an engine, and what extends the file, which anchors have used.
func leave(value any, path string, used map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			at := strings.TrimPrefix(path+"."+key, ".")
			if path == "services" {
				at = "services.*"
			}
			if _, ok := Elsewhere[at]; ok || path == "" && strings.HasPrefix(key, "x-") {
				used[at] = true
				delete(v, key)
				continue
			}
			leave(inner, at, used)
		}
	case []any:
		for _, inner := range v {
			leave(inner, path+"[]", used)
		}
	}
}
