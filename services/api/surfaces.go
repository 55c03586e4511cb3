package api

import (
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/services/api/internal/compat/jewelmusic"
	"github.com/postrider/postrider/services/api/internal/compat/labelst"
	"github.com/postrider/postrider/services/api/internal/compat/offblocks"
	"github.com/postrider/postrider/services/api/internal/console"
	"github.com/postrider/postrider/services/api/internal/idempotency"
	"github.com/postrider/postrider/services/api/internal/jsonapi"
	"github.com/postrider/postrider/services/api/internal/manage"
	"github.com/postrider/postrider/services/api/internal/openapi"
	"github.com/postrider/postrider/services/api/internal/wellknown"
)

// maxSurfaceBody bounds a request's body on the surfaces, in bytes. The REST API has its own bound.
const maxSurfaceBody = 1 << 20

// surface is an HTTP API beside the REST API. All of them are translations: they call the public
// gRPC API with the credential of their caller.
type surface struct {
	path    string // of the surface; with all below it if it ends in "/"
	handler http.Handler
}

// surfaces are those that this service serves, one line each.
func (s *Service) surfaces(conn grpc.ClientConnInterface) []surface {
	return []surface{
		{jsonapi.Prefix, jsonapi.New(conn)},
		{offblocks.Prefix, offblocks.New(offblocks.Deps{Conn: conn, Keeper: s.keeper(), PublicURL: s.cfg.PublicURL, Now: time.Now})},
		{wellknown.JWKSPath, wellknown.JWKS(conn, s.manage)},
		{wellknown.DirectoryPath, wellknown.Directory(conn, s.manage)},
		{openapi.Path, openapi.Handler()},
		{manage.CallbackPrefix, s.manage.HandshakeCallback()},
		{labelst.Prefix, labelst.New(labelst.Deps{Conn: conn, Live: s.liveToken, VerifyLimit: s.cfg.VerifyLimit, Now: time.Now})},
		{jewelmusic.Prefix, jewelmusic.New(jewelmusic.Deps{Conn: conn, Limit: s.cfg.JewelMusicLimit, Now: time.Now})},
	}
}

// liveToken reports whether a text is the token of a webhook, if that can be told now.
func (s *Service) liveToken(text string) (bool, error) {
	if !s.mirror.Fresh() {
		return false, fault.New(fault.Unavailable, "CONFIGURATION_STALE", "tokens cannot be looked up now")
	}
	return s.index.Live(text), nil
}

// keeper remembers the answers to repeated requests of the surface of OffBlocks.
func (s *Service) keeper() *idempotency.Keeper {
	return idempotency.New(s.deps.Store, offblocks.KeyKept, time.Now, s.deps.Logger)
}

// newFront sends each request to the surface that its path belongs to, those of pages to the console,
// and all others to rest. The
// paths are compared as they are: nothing is redirected to a cleaner one, because the signature of
// a request may cover what its caller wrote.
func newFront(rest http.Handler, surfaces []surface, pages http.Handler) http.Handler {
	bounded := make([]surface, len(surfaces))
	for i, each := range surfaces {
		bounded[i] = surface{each.path, http.MaxBytesHandler(each.handler, maxSurfaceBody)}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, each := range bounded {
			if r.URL.Path == each.path || strings.HasSuffix(each.path, "/") && strings.HasPrefix(r.URL.Path, each.path) {
				each.handler.ServeHTTP(w, r)
				return
			}
		}
		if console.Serves(r.URL.Path) {
			pages.ServeHTTP(w, r)
			return
		}
		rest.ServeHTTP(w, r)
	})
}
