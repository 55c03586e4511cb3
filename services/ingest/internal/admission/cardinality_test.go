package admission

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
)

// Ten thousand accounts, of every class and of none, have as many series as eight.
func TestAccountsMakeNoSeries(t *testing.T) {
	t.Parallel()
	tel, err := telemetry.New(telemetry.Default(), "ingest")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tel.Shutdown(context.Background())) })
	b := setup(t, patient())
	a, err := New(b.cfg, Deps{Events: b.record, Index: b.index, Directory: b.dir, Gate: b.gate, Logger: logtest.New(t), Telemetry: tel})
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, a.Stop(context.Background())) })
	series := func() int {
		w := httptest.NewRecorder()
		tel.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
		n := 0
		for line := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(line, "postrider_") {
				n++
			}
		}
		return n
	}
	classes := []string{"", "free", "standard", "premium", "internal", "gold", "platinum", "unobtainium"}
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			id := postrider.NewAccountID()
			class := classes[i%len(classes)]
			if class == "gold" {
				class += strconv.Itoa(i) // what only a later version knows, and differs each time
			}
			b.dir.PutAccount(&recordv1.Account{Account: &postriderv1.Account{Id: string(id), AccountClass: class}})
			r := one(withKey(string(id)))
			r.Account = id
			accept(t, a, r)
		}
	}
	publish(0, len(classes))
	before := series()
	require.Positive(t, before)
	publish(len(classes), 10_000)
	require.Equal(t, before, series())
}
