// Package openapi serves the document that describes every HTTP surface. The document is generated
// (make generate) from the protos and from the fragments beside the surfaces; it holds no state.
package openapi

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strconv"
)

// Path is where the document is served.
const Path = "/openapi.json"

// Document is the document.
//
//go:embed openapi.json
var Document []byte

// Handler serves the document to everybody: it says nothing that the source code does not.
func Handler() http.Handler {
	sum := sha256.Sum256(Document)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("ETag", etag)
		h.Set("Cache-Control", "public, max-age=300")
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(Document)))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*") // for tools that read it in a browser
		_, _ = w.Write(Document)                  // the client may be gone; there is nobody left to tell
	})
}
