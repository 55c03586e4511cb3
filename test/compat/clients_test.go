//go:build e2e

package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

// TestClients runs the clients of scripts/compat, which know nothing but what a source says.
func TestClients(t *testing.T) {
	s := open(t)
	for name, script := range map[string]string{
		"1.1.1 a client of the label service": "labelst.sh",
		"1.2.15 a client of JewelMusic":       "jewelmusic.sh",
		"1.4.6 a client of OffBlocks":         "offblocks.sh",
		"1.5.1 a client of Ingedata":          "ingedata.sh",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newIngedata(t, s)
			path, err := filepath.Abs("../../scripts/compat/" + script)
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), path)
			cmd.Env = append(os.Environ(), "BASE="+s.APIURL, "KEY="+c.Key, "HOOK="+receivertest.New(t).URL, "EVENT=release.created")
			said, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", said)
			t.Logf("%s", said)
		})
	}
}
