// Package wellknown publishes the keys that verify deliveries with HTTP message signatures, at the
// places where receivers look for them. It holds no state.
//
// Which account's keys: those of the credential, or of the account that the query names. Public
// keys are public, so the latter needs no credential; nothing else of an account is shown.
package wellknown

import (
	"context"
	"net/http"
	"strconv"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/caller"
)

// Paths of the two forms of the same JWK set.
const (
	JWKSPath      = "/.well-known/jwks.json"
	DirectoryPath = "/.well-known/http-message-signatures-directory"
)

// maxAge is how long the keys may be kept, in seconds. A new key is published for as long before
// it signs.
const maxAge = "3600"

// Publisher knows the public keys that an account publishes.
type Publisher interface {
	PublishedKeys(ctx context.Context, account string) ([]*postriderv1.SigningKey, error)
}

type handler struct {
	keys      Publisher
	own       postriderv1.SigningKeyServiceClient
	mediaType string
}

// JWKS is the handler of JWKSPath. It calls the public API over conn for whoever has a credential.
func JWKS(conn grpc.ClientConnInterface, keys Publisher) http.Handler {
	return &handler{keys, postriderv1.NewSigningKeyServiceClient(conn), "application/jwk-set+json"}
}

// Directory is the handler of DirectoryPath.
func Directory(conn grpc.ClientConnInterface, keys Publisher) http.Handler {
	return &handler{keys, postriderv1.NewSigningKeyServiceClient(conn), "application/http-message-signatures-directory+json"}
}

// ServeHTTP answers with the set.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	keys, scope, err := h.find(r)
	if err != nil {
		fault.WriteProblem(w, err, r.Header.Get("X-Request-Id"))
		return
	}
	body, err := set(keys)
	if err != nil {
		fault.WriteProblem(w, err, r.Header.Get("X-Request-Id"))
		return
	}
	header := w.Header()
	header.Set("Content-Type", h.mediaType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", scope+", max-age="+maxAge)
	header.Set("Vary", "Authorization")
	header.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) //nolint:gosec // a JWK set; the client may be gone, and there is nobody left to tell
}

// find is the keys, and who may keep them: everybody those that the URL tells apart.
func (h *handler) find(r *http.Request) (keys []*postriderv1.SigningKey, scope string, err error) {
	if account := r.URL.Query().Get("account"); account != "" {
		keys, err = h.keys.PublishedKeys(r.Context(), account)
		return keys, "public", err
	}
	resp, err := h.own.ListSigningKeys(caller.Outgoing(r.Context(), r.Header), &postriderv1.ListSigningKeysRequest{})
	return resp.GetSigningKeys(), "private", fault.FromStatus(err)
}

// set is the JWK set.
func set(keys []*postriderv1.SigningKey) ([]byte, error) {
	published := make([]httpsig.PublishedKey, 0, len(keys))
	for _, k := range keys {
		pub, alg, err := httpsig.ParsePublicKey(k.GetPublicKey())
		if err != nil {
			return nil, err
		}
		published = append(published, httpsig.PublishedKey{ID: k.GetId(), Algorithm: alg, Key: pub})
	}
	return httpsig.JWKS(published...)
}
