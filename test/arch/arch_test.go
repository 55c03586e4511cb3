package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	root    = "../.."
	planted = "testdata/planted"
)

func TestRepositoryKeepsTheImportRules(t *testing.T) {
	t.Parallel()
	pkgs, err := Load(t.Context(), root)
	require.NoError(t, err)
	require.Contains(t, paths(pkgs), "pkg/postrider", "the graph must hold the repository, or nothing was checked")
	require.Contains(t, paths(pkgs), "test/arch")
	for _, v := range Check(pkgs) {
		t.Error(v)
	}
}

// The planted workspace breaks every rule. Its violations are marked in its files, so a
// rule that no longer bites, and one that bites too much, both fail here.
func TestPlantedViolationsAreReported(t *testing.T) {
	t.Parallel()
	pkgs, err := Load(t.Context(), planted)
	require.NoError(t, err)

	var got []string
	for _, v := range Check(pkgs) {
		got = append(got, v.Rule+" "+v.From+" "+v.To)
	}
	var want []string
	broken := map[string]bool{}
	for _, m := range marks(t, planted) {
		// Marks without an import are for linters, but for a package without a rank.
		if m.imported != "" || m.rule == RuleRanks {
			want = append(want, m.rule+" "+m.pkg+" "+m.imported)
			broken[m.rule] = true
		}
	}
	require.ElementsMatch(t, want, got)
	require.Len(t, broken, len(edgeRules), "each rule needs a planted violation")
}

// mark is a comment "planted: <rule>" at the end of a line of a planted file.
type mark struct {
	rule string
	file string
	line int
	// pkg and imported are relative to the repository, as in Package.
	pkg, imported string
}

func marks(t *testing.T, dir string) []mark {
	t.Helper()
	var found []mark
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		file, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found = append(found, fileMarks(t, path, filepath.ToSlash(file))...)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

func fileMarks(t *testing.T, path, file string) []mark {
	t.Helper()
	src, err := os.ReadFile(path)
	require.NoError(t, err)
	fset := token.NewFileSet()
	ast, err := parser.ParseFile(fset, path, src, parser.ImportsOnly)
	require.NoError(t, err)
	imports := map[int]string{}
	for _, spec := range ast.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		require.NoError(t, err)
		imports[fset.Position(spec.Pos()).Line] = relative(imported)
	}
	var found []mark
	for i, line := range strings.Split(string(src), "\n") {
		if _, rule, ok := strings.Cut(line, "// planted: "); ok {
			found = append(found, mark{rule, file, i + 1, filepath.ToSlash(filepath.Dir(file)), imports[i+1]})
		}
	}
	return found
}

func paths(pkgs []Package) []string {
	all := make([]string, 0, len(pkgs))
	for _, p := range pkgs {
		all = append(all, p.Path)
	}
	return all
}
