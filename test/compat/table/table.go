// Package table makes the table of docs/compatibility.md from the list of checks and from what
// `go test -json` printed. It is strict: a check that no test shows is an error, and so is a test
// that names a check that is not there.
package table

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Check is one line of the list.
type Check struct {
	Number, Text string
}

// Section is the checks of one source.
type Section struct {
	Number, Title string
	Checks        []Check
}

var (
	sectionForm = regexp.MustCompile(`^## (\d+\.\d+) (.+)$`)
	checkForm   = regexp.MustCompile(`^(\d+\.\d+\.\d+) (.+)$`)
	testForm    = regexp.MustCompile(`^(\d+\.\d+\.\d+)(?:_|$)`)
)

// Read reads the list of checks. Lines that begin with "# " are for people.
func Read(r io.Reader) ([]Section, error) {
	var sections []Section
	seen := map[string]bool{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if m := sectionForm.FindStringSubmatch(line); m != nil {
			sections = append(sections, Section{Number: m[1], Title: m[2]})
			continue
		}
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		m := checkForm.FindStringSubmatch(line)
		switch {
		case m == nil:
			return nil, fmt.Errorf("line %d is no check", n)
		case len(sections) == 0 || !strings.HasPrefix(m[1], sections[len(sections)-1].Number+"."):
			return nil, fmt.Errorf("line %d: check %s stands outside of its section", n, m[1])
		case seen[m[1]]:
			return nil, fmt.Errorf("line %d: check %s is there twice", n, m[1])
		}
		seen[m[1]] = true
		last := &sections[len(sections)-1]
		last.Checks = append(last.Checks, Check{Number: m[1], Text: m[2]})
	}
	return sections, lines.Err()
}

// Results are the tests of each check.
type Results map[string]*Result

// Result is what the tests of one check came to.
type Result struct {
	Tests  []string // in order, each once
	Failed []string
}

// event is a line of go test -json, as far as it is of interest.
type event struct {
	Action string
	Test   string
}

// Collect reads what go test -json printed. A test belongs to a check if one of the parts of its
// name begins with the check's number; what is below that part belongs to it.
func Collect(r io.Reader) (Results, error) {
	results := Results{}
	decoder := json.NewDecoder(r)
	for {
		var e event
		err := decoder.Decode(&e)
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the tests' output: %w", err)
		}
		number, ok := checkOf(e.Test)
		if !ok {
			continue
		}
		switch e.Action {
		case "pass", "fail", "skip": // a skipped test shows nothing
			result := results[number]
			if result == nil {
				result = &Result{}
				results[number] = result
			}
			if e.Action == "pass" {
				result.Tests = append(result.Tests, e.Test)
			} else {
				result.Failed = append(result.Failed, e.Test)
			}
		}
	}
}

// checkOf is the check that a test's last part names.
func checkOf(test string) (number string, ok bool) {
	parts := strings.Split(test, "/")
	m := testForm.FindStringSubmatch(parts[len(parts)-1])
	if m == nil {
		return "", false
	}
	return m[1], true
}

// Holds says whether every check has a test and every test passed; the error names what does not.
func Holds(sections []Section, results Results) error {
	var errs []error
	known := map[string]bool{}
	for _, s := range sections {
		for _, c := range s.Checks {
			known[c.Number] = true
			r := results[c.Number]
			switch {
			case r == nil:
				errs = append(errs, fmt.Errorf("check %s has no test: %s", c.Number, c.Text))
			case len(r.Failed) > 0:
				errs = append(errs, fmt.Errorf("check %s does not hold: %s", c.Number, strings.Join(r.Failed, ", ")))
			}
		}
	}
	for number, r := range results {
		if !known[number] {
			errs = append(errs, fmt.Errorf("there is no check %s, which is named by %s", number, strings.Join(append(r.Tests, r.Failed...), ", ")))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Markdown is the page.
func Markdown(sections []Section, results Results) string {
	var b strings.Builder
	b.WriteString("# Compatibility\n\n<!-- Made by make docs/compatibility from the output of the tests; do not edit. -->\n\n")
	b.WriteString("What the five source systems and the standards demand, as checks, and the tests in `test/compat` that show each.\n" +
		"`make test/compat` runs them against a running Postrider and fails if a check has no passing test. Sources: [S] the\n" +
		"system's own page, [D] said elsewhere by the same company, [R] our decision where it is silent.\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s\n\n| check | what holds | shown by |\n| --- | --- | --- |\n", s.Title)
		for _, c := range s.Checks {
			var tests []string
			if r := results[c.Number]; r != nil {
				tests = slices.Clone(r.Tests)
			}
			slices.Sort(tests)
			for i, t := range slices.Compact(tests) {
				tests[i] = "`" + strings.SplitN(t, "/", 2)[0] + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Number, strings.ReplaceAll(c.Text, "|", `\|`), strings.Join(slices.Compact(tests), ", "))
		}
	}
	return b.String()
}
