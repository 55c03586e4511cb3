package check_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/stretchr/testify/require"
)

// lint returns what BuildKit's parser and the rules of its linter that need no engine say of a
// Dockerfile, and what ours do.
func lint(t *testing.T, text string) []string {
	t.Helper()
	var out []string
	warn := func(rule, _, _, detail string, _ []parser.Range) { out = append(out, rule+": "+detail) }
	parsed, err := parser.Parse(strings.NewReader(text))
	require.NoError(t, err)
	for _, w := range parsed.Warnings {
		out = append(out, w.Short)
	}
	if _, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: warn})); err != nil {
		out = append(out, err.Error())
	}
	return append(out, rules(text)...)
}

var base = regexp.MustCompile(`(?m)^FROM (?:--\S+ )?(\S+)`)

// rules are those that the linter does not have.
func rules(text string) []string {
	var out []string
	for _, m := range base.FindAllStringSubmatch(text, -1) {
		if m[1] != "scratch" && !regexp.MustCompile(`@sha256:[0-9a-f]{64}$`).MatchString(m[1]) {
			out = append(out, "base "+m[1]+" has no digest")
		}
	}
	if !regexp.MustCompile(`(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`).MatchString(text) {
		out = append(out, "no user by number who is not root")
	}
	if regexp.MustCompile(`(?m)^(ENTRYPOINT|CMD) [^\[]`).MatchString(text) {
		out = append(out, "a shell starts the program")
	}
	return out
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../Dockerfile")
	require.NoError(t, err)
	text := string(file)
	require.Empty(t, lint(t, text))
	for name, plant := range map[string]struct{ from, to, want string }{
		"a base without a digest":          {"FROM scratch", "FROM alpine:3.22", "has no digest"},
		"root":                             {"USER 65532:65532", "USER 0:0", "who is not root"},
		"a name":                           {"USER 65532:65532", "USER nobody", "who is not root"},
		"a shell":                          {`ENTRYPOINT ["/service"]`, "ENTRYPOINT /service", "a shell starts the program"},
		"a rule of the linter":             {"WORKDIR /src", "MAINTAINER somebody", "MaintainerDeprecated"},
		"an instruction that is not there": {"WORKDIR /src", "WORKDIRECTORY /src", "unknown instruction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, text, plant.from)
			require.Contains(t, strings.Join(lint(t, strings.ReplaceAll(text, plant.from, plant.to)), "\n"), plant.want)
		})
	}
}
