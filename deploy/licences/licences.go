// Package licences says under which licences the modules in a binary are, by the texts that they
// bring, and which of them are not among those that we accept.
package licences

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	classifier "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
)

// Accepted are the licences, by SPDX id, under which a program under Apache-2.0 may hold others' code.
var Accepted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "CC0-1.0", "Unlicense"}

// Module is one dependency in a binary.
type Module struct{ Path, Version string }

// Modules are the dependencies in binaries, without the modules of this repository.
func Modules(binaries ...string) ([]Module, error) {
	found := map[Module]bool{}
	for _, path := range binaries {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		for _, dep := range info.Deps {
			if !strings.HasPrefix(dep.Path, "github.com/postrider/postrider/") {
				found[Module{dep.Path, dep.Version}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b Module) int { return strings.Compare(a.Path+"@"+a.Version, b.Path+"@"+b.Version) }), nil
}

// file is how files with a licence are called. Lists of what others' modules depend on (LICENSE-3RD-PARTY)
// are none: what of it is in a binary is a module of its own here.
var file = regexp.MustCompile(`(?i)^(LICEN[CS]E|COPYING|UNLICENSE)([.-].*)?$`)

// Find returns the licences in a module's folder, from the texts of its files.
func Find(c *classifier.Classifier, dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, e := range entries {
		if e.IsDir() || !file.MatchString(e.Name()) || strings.Contains(strings.ToUpper(e.Name()), "PARTY") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name())) //nolint:gosec // a file of a module
		if err != nil {
			return nil, err
		}
		for _, m := range c.Match(text).Matches {
			if m.MatchType == "License" {
				found[m.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Check returns a line for each module with a licence that is not accepted, or without one.
func Check(ctx context.Context, modules []Module) ([]string, error) {
	c, err := assets.DefaultClassifier()
	if err != nil {
		return nil, fmt.Errorf("load the licences' texts: %w", err)
	}
	var out []string
	for _, m := range modules {
		dir, err := folder(ctx, m)
		if err != nil {
			return nil, err
		}
		names, err := Find(c, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Path, err)
		}
		if line := verdict(m, names); line != "" {
			out = append(out, line)
		}
	}
	return out, nil
}

func verdict(m Module, names []string) string {
	if len(names) == 0 {
		return fmt.Sprintf("%s %s: no licence that is known", m.Path, m.Version)
	}
	for _, name := range names {
		if !slices.Contains(Accepted, name) {
			return fmt.Sprintf("%s %s: %s is not accepted", m.Path, m.Version, name)
		}
	}
	return ""
}

// folder is where a module's files are; go checks them against the checksum database.
func folder(ctx context.Context, m Module) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.Path+"@"+m.Version) //nolint:gosec // of a binary of ours
	cmd.Dir = os.TempDir()                                                                  // outside of every module
	text, err := cmd.Output()
	var found struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(text, &found); jsonErr != nil || found.Dir == "" {
		return "", fmt.Errorf("download %s: %w %s", m.Path, errors.Join(err, jsonErr), found.Error)
	}
	return found.Dir, nil
}
