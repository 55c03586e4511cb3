//go:build chaos

package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// row is a drill's line of the matrix. The drill names the fault, calls strike before each blow and
// report at its end; the counts are made from the ledger, and from the API for what did not arrive.
type row struct {
	Drill      string `json:"drill"`
	Fault      string `json:"fault"`
	Accepted   int    `json:"accepted"` // events; all that follows counts deliveries
	Delivered  int    `json:"delivered"`
	Dead       int    `json:"dead"`
	Held       int    `json:"held"`
	Waiting    int    `json:"waiting"`
	Cancelled  int    `json:"cancelled"`
	Lost       int    `json:"lost"` // accepted, not arrived, and in none of those states
	Duplicates int    `json:"duplicates"`
	Bound      int    `json:"duplicates_bound"` // what the fault can repeat, computed by the drill
	InFlight   []int  `json:"in_flight"`        // at each strike
	// Recovery is from a strike until all that was in flight at it had arrived, waits of its retry
	// schedule included, for the slowest strike; or, where the drill measures what the fault alone
	// cost, that.
	Recovery time.Duration `json:"-"`
	Seconds  float64       `json:"recovery_seconds"`
	Failed   bool          `json:"failed"`

	strikes []time.Time
}

// loadWithin bounds the wait of a strike for something to be in flight.
const loadWithin = 10 * time.Second

// strike notes and prints what is in flight right before a blow. A blow while nothing is would prove
// nothing: between two batches of a light load it waits for the next, and it fails the drill if none
// comes.
func (r *row) strike(t *testing.T, w *world, blow string) int {
	t.Helper()
	var n int
	awaited(t.Context(), loadWithin, time.Millisecond, func() bool {
		n = w.ledger.inFlight()
		return n > 0
	})
	r.strikes, r.InFlight = append(r.strikes, time.Now()), append(r.InFlight, n)
	t.Logf("strike %d: %s, with %d events accepted and %d deliveries in flight", len(r.strikes), blow, w.ledger.acceptedCount(), n)
	require.Positive(t, n, "nothing was in flight when it struck")
	return n
}

// report completes a drill's row, adds it to the matrix, and fails the drill for what was lost and
// for more duplicates than its bound. Everything that the drill waits for has happened by then.
func report(t *testing.T, w *world, r *row) {
	t.Helper()
	require.NotEmpty(t, r.strikes, "the drill never struck")
	sum := w.ledger.total()
	r.Drill, r.Accepted, r.Delivered, r.Duplicates = t.Name(), sum.accepted, sum.arrived, sum.duplicates
	if len(sum.missing) > 0 {
		awaited(t.Context(), time.Minute, time.Second, func() bool { return r.place(t, w, sum.missing) == 0 })
	}
	if r.Recovery == 0 {
		for _, at := range r.strikes {
			if waits := w.ledger.waits(at, func(pair) bool { return true }); len(waits) > 0 {
				r.Recovery = max(r.Recovery, waits[len(waits)-1])
			}
		}
	}
	r.Seconds = r.Recovery.Seconds()
	if r.Lost > 0 {
		t.Errorf("%d deliveries are lost: they did not arrive, and the API has them in no state that explains it", r.Lost)
	}
	if r.Duplicates > r.Bound {
		t.Errorf("%d deliveries came again after they were taken; the fault explains %d", r.Duplicates, r.Bound)
	}
	r.Failed = t.Failed()
	matrix.add(*r)
}

// place asks the API where the deliveries are that did not arrive, and returns how many are nowhere.
// The log may lag behind.
func (r *row) place(t *testing.T, w *world, missing []pair) int {
	t.Helper()
	counts := map[postriderv1.DeliveryState]*int{dead: &r.Dead, held: &r.Held, waiting: &r.Waiting, cancelled: &r.Cancelled}
	sought := make(map[pair]bool, len(missing))
	for _, p := range missing {
		sought[p] = true
	}
	for state, count := range counts {
		*count = 0
		err := w.logged(t.Context(), 0, state, func(d *postriderv1.Delivery) {
			if p := w.pairOf(d); sought[p] {
				delete(sought, p)
				*count++
			}
		})
		if err != nil {
			t.Logf("the log cannot be read: %v", err)
		}
	}
	r.Lost = len(sought)
	return r.Lost
}

// table collects the rows of a run.
type table struct {
	mu   sync.Mutex
	rows []row
}

// matrix is the one of this process; drills run side by side, and TestMain prints it after all.
var matrix table

func (m *table) add(r row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows = append(m.rows, r)
}

// drills runs the tests of this package, then prints the matrix, and writes it as JSON to the file
// that POSTRIDER_CHAOS_MATRIX names.
type drills struct{ tests interface{ Run() int } }

// Run implements what goleak wants of a test's main.
func (d drills) Run() int {
	code := d.tests.Run()
	if len(matrix.rows) == 0 {
		return code
	}
	err := matrix.print(os.Stdout)
	if path := os.Getenv("POSTRIDER_CHAOS_MATRIX"); path != "" {
		err = errors.Join(err, matrix.write(path))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the matrix:", err)
		return max(code, 1)
	}
	return code
}

func (m *table) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...any) {
		_, _ = fmt.Fprintf(w, strings.Repeat("%v\t", len(cells))+"\n", cells...) // Flush tells of a fault
	}
	line("drill", "fault", "accepted", "delivered", "dead", "held", "waiting", "cancelled", "lost", "duplicates", "bound", "in flight at strikes", "recovery", "")
	for _, r := range m.rows {
		verdict := ""
		if r.Failed {
			verdict = "FAILED"
		}
		line(strings.TrimPrefix(r.Drill, "Test"), r.Fault, r.Accepted, r.Delivered, r.Dead, r.Held, r.Waiting, r.Cancelled, r.Lost,
			r.Duplicates, r.Bound, r.inFlight(), r.Recovery.Round(time.Millisecond), verdict)
	}
	return w.Flush()
}

// inFlight is the least and the most that was in flight at a strike, and of how many strikes.
func (r *row) inFlight() string {
	if len(r.InFlight) == 1 {
		return strconv.Itoa(r.InFlight[0])
	}
	return fmt.Sprintf("%d to %d at %d", slices.Min(r.InFlight), slices.Max(r.InFlight), len(r.InFlight))
}

func (m *table) write(path string) error {
	text, err := json.MarshalIndent(m.rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}
