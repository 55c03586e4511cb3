package arch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var testName = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")

// TestEveryTestThatAGuaranteeNamesExists keeps docs/guarantees.md from promising what nothing proves.
func TestEveryTestThatAGuaranteeNamesExists(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "guarantees.md"))
	require.NoError(t, err)
	wanted := map[string]bool{}
	for _, m := range testName.FindAllSubmatch(page, -1) {
		wanted[string(m[1])] = true
	}
	require.NotEmpty(t, wanted)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "var") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for name := range wanted {
			if strings.Contains(string(source), "func "+name+"(") {
				delete(wanted, name)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Empty(t, wanted, "docs/guarantees.md names tests that do not exist")
}
