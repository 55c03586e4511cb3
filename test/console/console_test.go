//go:build e2e

package console_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/system"
)

// browsers are the names that Chromium goes by.
var browsers = []string{"chromium", "chromium-browser", "google-chrome"}

// TestAPersonWalksThroughTheConsole runs walk.js over the one process. Set CONSOLE_SCREENSHOTS to a
// folder to keep a picture of every page.
func TestAPersonWalksThroughTheConsole(t *testing.T) {
	t.Parallel()
	_, s := system.StartStandalone(t, map[string]string{
		"POSTRIDER_API_CONSOLE_PORTAL_NAME":   "Acme Webhooks",
		"POSTRIDER_API_CONSOLE_PORTAL_ACCENT": "#7a2e4d",
	})
	browser := ""
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	require.NotEmpty(t, browser, "none of %v is installed", browsers)
	script, err := filepath.Abs("../node/console/walk.js")
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "node", script)
	cmd.Dir = filepath.Dir(filepath.Dir(script))
	cmd.Env = append(os.Environ(), "CONSOLE_URL="+s.APIURL, "CONSOLE_KEY="+s.AdminKey, "CONSOLE_BROWSER="+browser, "CONSOLE_PROFILE="+t.TempDir())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}
