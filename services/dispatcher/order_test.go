package dispatcher_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAStrictWebhookKeepsTheOrderOfEventsThatAreRoutedInAnyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	hook := w.webhook(t, receiver.URL, ordered("strict"))
	other := newLineReceiver(t)
	unordered := w.webhook(t, other.URL)
	w.dispatch(t, testConfig())
	w.route(t, 2, hook, unordered)
	for i := range 10 {
		w.accept(t, i*100, 100)
	}
	receiver.await(t, 1000)
	other.await(t, 1000)
	receiver.inOrder(t)
}

func TestAHeadThatFailsHoldsUpItsLineAndNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	receiver.answer = func(body string, attempt int) int {
		if strings.HasPrefix(body, "a/") && attempt < 3 && body < "a/000010" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	hook := w.webhook(t, receiver.URL, ordered("key"))
	w.dispatch(t, testConfig())
	w.route(t, 2, hook)
	w.accept(t, 0, 300, "a", "b", "c")
	receiver.await(t, 300)
	receiver.inOrder(t)
}

func TestALineGoesOnAfterADeadDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := newLineReceiver(t)
	receiver.answer = func(body string, _ int) int {
		if body == "/000005" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	hook := w.webhook(t, receiver.URL, ordered("strict"))
	w.dispatch(t, testConfig())
	w.route(t, 2, hook)
	w.accept(t, 0, 50)
	receiver.await(t, 49)
	receiver.inOrder(t)
	receiver.set(func(r *lineReceiver) {
		require.Equal(t, 3, r.tries["/000005"])
		require.Equal(t, "/000006", r.took[""][5])
	})
}

func TestABacklogBehindAFailingHeadDrainsInOrder(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"small": 300, "large": 10_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			receiver := newLineReceiver(t)
			mended := false
			receiver.answer = func(body string, _ int) int {
				if body == "/000000" && !mended {
					return http.StatusInternalServerError
				}
				return http.StatusOK
			}
			hook := w.webhook(t, receiver.URL, ordered("strict"), retrying(100))
			w.dispatch(t, testConfig())
			w.route(t, 2, hook)
			w.accept(t, 0, n)
			require.Eventually(t, func() bool { return len(w.scheduler.records(parkedKind)) >= n-1 }, 2*patience, tick,
				"everything behind it is parked")
			receiver.set(func(*lineReceiver) { mended = true })
			receiver.await(t, n)
			receiver.inOrder(t)
			parked := len(w.scheduler.records(parkedKind))
			require.Less(t, parked, n+n/2, "what is fetched is parked again now and then")
			t.Logf("%d deliveries, parked %d times", n, parked)
		})
	}
}
