package api

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/services/api/internal/manage"
	"github.com/postrider/postrider/services/api/internal/openapi"
)

func TestEverySurfaceIsInTheDocument(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(openapi.Document, &doc))
	s := &Service{cfg: Default(), manage: manage.New(manage.Deps{})}
	for _, each := range s.surfaces(nil) {
		described := false
		for path := range doc.Paths {
			described = described || path == each.path || strings.HasSuffix(each.path, "/") && strings.HasPrefix(path, each.path)
		}
		require.True(t, described, "write an openapi.yaml beside the surface at %s", each.path)
	}
}

func TestTheDocumentIsServedToEverybody(t *testing.T) {
	t.Parallel()
	h := openapi.Handler()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", openapi.Path, nil))
	require.Equal(t, 200, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.JSONEq(t, string(openapi.Document), w.Body.String())
	r := httptest.NewRequestWithContext(t.Context(), "GET", openapi.Path, nil)
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 304, w.Code)
	require.Zero(t, w.Body.Len())
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", openapi.Path, nil))
	require.Equal(t, 405, w.Code)
}
