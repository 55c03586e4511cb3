package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"path"
	"sync"
)

//go:embed assets
var assets embed.FS

// tags are the entity tags of the assets, which never change while the process runs.
var tags = sync.OnceValue(func() map[string]string {
	all := make(map[string]string)
	_ = fs.WalkDir(assets, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := assets.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		all[path.Base(name)] = `"` + base64.RawURLEncoding.EncodeToString(sum[:9]) + `"`
		return nil
	})
	return all
})

var mediaTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// serveAsset serves a file to everybody. A browser asks each time whether its copy is still the one.
func serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	b, err := assets.ReadFile("assets/" + name)
	media := mediaTypes[path.Ext(name)]
	if err != nil || media == "" {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", media)
	h.Set("ETag", tags()[name])
	if r.Header.Get("If-None-Match") == tags()[name] {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(b) //nolint:gosec // a file of the program; the request only names it
}
