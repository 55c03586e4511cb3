package table_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/compat/table"
)

const list = "# for people\n\n## 1.1 First\n1.1.1 one thing\n1.1.2 another\n"

func read(t *testing.T, text string) []table.Section {
	t.Helper()
	sections, err := table.Read(strings.NewReader(text))
	require.NoError(t, err)
	return sections
}

func collect(t *testing.T, lines ...string) table.Results {
	t.Helper()
	results, err := table.Collect(strings.NewReader(strings.Join(lines, "\n")))
	require.NoError(t, err)
	return results
}

func TestACheckHoldsIfAllOfItsTestsPass(t *testing.T) {
	t.Parallel()
	const first = `{"Action":"pass","Test":"TestFirst/1.1.1_one_thing"}`
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"all pass":                   {[]string{first, `{"Action":"pass","Test":"TestFirst/1.1.2_another"}`}, ""},
		"one has none":               {[]string{first}, "check 1.1.2 has no test: another"},
		"one fails":                  {[]string{first, `{"Action":"fail","Test":"TestFirst/1.1.2"}`, `{"Action":"pass","Test":"TestOther/1.1.2"}`}, "check 1.1.2 does not hold: TestFirst/1.1.2"},
		"one is skipped":             {[]string{first, `{"Action":"skip","Test":"TestFirst/1.1.2_x"}`}, "check 1.1.2 does not hold"},
		"one is unknown":             {[]string{first, `{"Action":"pass","Test":"TestFirst/1.1.2"}`, `{"Action":"pass","Test":"TestFirst/1.1.3_x"}`}, "there is no check 1.1.3"},
		"a longer number is another": {[]string{first, `{"Action":"pass","Test":"TestFirst/1.1.22_x"}`}, "check 1.1.2 has no test"},
		"a run is no result":         {[]string{first, `{"Action":"run","Test":"TestFirst/1.1.2_x"}`}, "check 1.1.2 has no test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := table.Holds(read(t, list), collect(t, c.lines...))
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestTheListIsHeldToItsForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1.1.1 outside\n":                    "outside of its section",
		"## 1.1 A\n1.2.1 another's\n":        "outside of its section",
		"## 1.1 A\n1.1.1 one\n1.1.1 twice\n": "is there twice",
		"## 1.1 A\nsomething\n":              "line 2 is no check",
	} {
		_, err := table.Read(strings.NewReader(text))
		require.ErrorContains(t, err, want)
	}
	f, err := os.Open("../checks.txt")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	sections, err := table.Read(f)
	require.NoError(t, err)
	require.NotEmpty(t, sections)
}

func TestThePageNamesTheTests(t *testing.T) {
	t.Parallel()
	page := table.Markdown(read(t, list), collect(t,
		`{"Action":"pass","Test":"TestSecond/1.1.1_one"}`, `{"Action":"pass","Test":"TestFirst/1.1.1_one"}`,
		`{"Action":"pass","Test":"TestFirst/1.1.1_two"}`))
	require.Contains(t, page, "| 1.1.1 | one thing | `TestFirst`, `TestSecond` |")
}
