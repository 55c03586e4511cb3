package check_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// noRegistry answers what is asked of a registry: every image is there and says nothing.
type noRegistry struct{}

func (noRegistry) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, digest.FromString(ref), []byte(`{"architecture":"amd64","os":"linux","config":{}}`), nil
}

// lint returns what BuildKit's own linter says of a Dockerfile.
func lint(t *testing.T, text string) []string {
	t.Helper()
	results, err := dockerfile2llb.DockerfileLint(t.Context(), []byte(text), dockerfile2llb.ConvertOpt{
		MetaResolver: noRegistry{},
		Config:       dockerui.Config{BuildArgs: map[string]string{"SERVICE": "router"}},
		TargetPlatform: &ocispecs.Platform{OS: "linux", Architecture: "amd64"},
	})
	require.NoError(t, err)
	var out []string
	if results.Error != nil {
		out = append(out, results.Error.Message)
	}
	for _, w := range results.Warnings {
		out = append(out, w.RuleName+": "+w.Detail)
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
		"a base without a digest": {"FROM scratch", "FROM alpine:3.22", "has no digest"},
		"root":                    {"USER 65532:65532", "USER 0:0", "who is not root"},
		"a name":                  {"USER 65532:65532", "USER nobody", "who is not root"},
		"a shell":                 {`ENTRYPOINT ["/service"]`, "ENTRYPOINT /service", "JSONArgsRecommended"},
		"a variable that is not there": {"GOARCH=$TARGETARCH", "GOARCH=$TARGETARK", "UndefinedVar"},
		"an instruction that is not there": {"WORKDIR /src", "WORKDIRECTORY /src", "unknown instruction"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, text, plant.from)
			require.Contains(t, strings.Join(lint(t, strings.ReplaceAll(text, plant.from, plant.to)), "\n"), plant.want)
		})
	}
}
