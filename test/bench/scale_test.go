package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestPartsAreChosenByTheirNamesOrTheirThings(t *testing.T) {
	t.Parallel()
	count := func(only ...string) (n int) {
		for _, p := range parts() {
			if chosen(only, p.name) {
				n++
			}
		}
		return n
	}
	require.Equal(t, len(parts()), count())
	require.Equal(t, 3, count("webhooks"))
	require.Equal(t, 1, count("webhooks-1k"))
	require.Equal(t, 4, count("retries", "webhooks-1k"))
	require.Zero(t, count("web"))
}

func TestAPartThatFailedSaysSo(t *testing.T) {
	t.Parallel()
	r := ScaleReport{Parts: []Part{
		{Name: "retries-10k", Rows: []Row{figure("", "memory of Redis for one", unitBytes, 110)}},
		{Name: "retries-10m", Error: "no room", Rows: []Row{figure("", "handed over", unitRate, 5)}},
	}}
	var out strings.Builder
	require.NoError(t, r.Table(&out))
	require.Contains(t, out.String(), "memory of Redis for one  110 ")
	require.Contains(t, out.String(), "NOT MEASURED TO ITS END: no room")
	require.NoError(t, r.JSON(&out))
}

func TestACopyOfAWebhookKeepsNothingThatIsOnesOwn(t *testing.T) {
	t.Parallel()
	first := copyOf(&recordv1.Webhook{Webhook: &postriderv1.Webhook{}}, "acc_1", 3)
	second := copyOf(first, "acc_2", 4)
	require.NotEqual(t, first.GetWebhook().GetId(), second.GetWebhook().GetId())
	require.NotEqual(t, first.GetWebhook().GetNumber(), second.GetWebhook().GetNumber())
	require.NotEqual(t, first.GetWebhook().GetEventTypes(), second.GetWebhook().GetEventTypes())
	require.Equal(t, "acc_2", second.GetWebhook().GetAccountId())
}

func TestTheSizeOfAFolderIsThatOfItsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "below"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), make([]byte, 10), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "below", "b"), make([]byte, 5), 0o600))
	n, err := sizeOf(dir)
	require.NoError(t, err)
	require.EqualValues(t, 15, n)
}
