package doctor_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/services/standalone/internal/doctor"
)

// The page of options is made from the services' own, so an option that is new there is missed here.
func TestTheDoctorKnowsEveryOptionOfTheServices(t *testing.T) {
	t.Parallel()
	cfg := doctor.DefaultConfig()
	known := make(map[string]bool)
	for _, o := range conf.Describe(&cfg) {
		known[o.Env] = true
	}
	page, err := os.ReadFile("../../../../docs/configuration.md")
	require.NoError(t, err)
	services := regexp.MustCompile(`(?s)\n## ingest\n.*`).Find(page)
	options := regexp.MustCompile("`(POSTRIDER_[A-Z0-9_]+)`").FindAllSubmatch(services, -1)
	require.Greater(t, len(options), 200)
	for _, o := range options {
		if name := string(o[1]); name != "POSTRIDER_CONFIG" {
			require.True(t, known[name], name)
		}
	}
}
