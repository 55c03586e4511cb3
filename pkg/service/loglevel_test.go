package service_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/service"
)

// call asks the metrics port for the level, or to change it.
func call(t *testing.T, h http.Handler, method, target, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body)))
	text, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return w.Code, strings.TrimSpace(string(text))
}

// A level that was set at run time holds for its time, and then the configured one is back.
func TestTheLogLevelIsChangedForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var level slog.LevelVar
		admin, err := service.NewAdmin(service.DefaultAdmin(), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		admin.Levels(&level)
		h := admin.Pages()

		code, text := call(t, h, http.MethodPut, "/loglevel?for=10m", "debug")
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "debug", text)
		require.Equal(t, slog.LevelDebug, level.Level())
		time.Sleep(10*time.Minute - time.Second) //nolint:forbidigo // the clock is synctest's
		require.Equal(t, slog.LevelDebug, level.Level())
		time.Sleep(2 * time.Second) //nolint:forbidigo // the clock is synctest's
		require.Equal(t, slog.LevelInfo, level.Level())

		call(t, h, http.MethodPut, "/loglevel", "error")
		_, text = call(t, h, http.MethodGet, "/loglevel", "")
		require.Equal(t, "error", text)
		_, text = call(t, h, http.MethodDelete, "/loglevel", "")
		require.Equal(t, "info", text)
		for target, body := range map[string]string{"/loglevel": "loud", "/loglevel?for=48h": "debug", "/loglevel?for=x": "debug", "/loglevel?for=-1s": "debug"} {
			code, _ = call(t, h, http.MethodPut, target, body)
			require.Equal(t, http.StatusBadRequest, code, "%s %s", target, body)
		}
		require.Equal(t, slog.LevelInfo, level.Level())
		require.NoError(t, admin.Stop(t.Context()))
	})
}

// A program that gave no level to change has none.
func TestNoLevelToChange(t *testing.T) {
	t.Parallel()
	admin, err := service.NewAdmin(service.DefaultAdmin(), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	code, _ := call(t, admin.Pages(), http.MethodPut, "/loglevel", "debug")
	require.Equal(t, http.StatusNotFound, code)
}
