package licences_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/licenseclassifier/v2/assets"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/deploy/licences"
)

func TestFind(t *testing.T) {
	t.Parallel()
	c, err := assets.DefaultClassifier()
	require.NoError(t, err)
	ours, err := licences.Find(c, "../..")
	require.NoError(t, err)
	require.Equal(t, []string{"Apache-2.0"}, ours)

	dir := t.TempDir()
	none, err := licences.Find(c, dir)
	require.NoError(t, err)
	require.Empty(t, none)
	text, err := assets.ReadLicenseFile("License/AGPL-3.0/license.txt")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "COPYING"), text, 0o600))
	strict, err := licences.Find(c, dir)
	require.NoError(t, err)
	require.Equal(t, []string{"AGPL-3.0"}, strict)
	require.NotContains(t, licences.Accepted, "AGPL-3.0")
}
