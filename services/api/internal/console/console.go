// Package console serves the web console and the portal for webhook owners: pages that are rendered
// here, with assets that are embedded. It is a client of the public API: every page calls it with the
// credential of its reader, so who may see and do what is decided there and nowhere else. It keeps
// nothing; a session is a sealed cookie, so that any replica serves any request.
package console

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/services/api/internal/publicurl"
	"github.com/postrider/postrider/services/api/internal/ratelimit"
)

// Where the pages are.
const (
	Prefix       = "/console/"
	PortalPrefix = "/portal/"

	accountPrefix = Prefix + "accounts/"
)

// Config is what an operator can say about the pages.
type Config struct {
	SignInLimit int    `conf:"sign-in-limit" help:"keys that an address may try in a minute, at each process"`
	Brand       Brand  `conf:"portal"`
	Ancestors   string `conf:"portal-frame-ancestors" help:"origins whose pages may embed the portal, separated by spaces, such as https://app.example.com; empty: none"`
}

// DefaultConfig is the configuration that most deployments want.
func DefaultConfig() Config {
	return Config{SignInLimit: 20, Brand: Brand{Name: "Webhooks", Accent: "#3d5a80"}}
}

// Validate reports every fault at once.
func (c *Config) Validate() error {
	return errors.Join(
		conf.AtLeast("sign-in-limit", c.SignInLimit, 1),
		conf.Rule(ancestorsForm.MatchString(c.Ancestors), "portal-frame-ancestors", "must be origins such as https://app.example.com, separated by spaces"),
	)
}

// Deps is what the pages work with.
type Deps struct {
	Conn      grpc.ClientConnInterface // to the public API
	Sealer    *seal.Sealer             // of sessions; the same at every replica
	PublicURL publicurl.Base
	Config    Config
	Logger    *slog.Logger
	Now       func() time.Time
}

// Console serves the pages.
type Console struct {
	deps    Deps
	api     clients
	pages   *pages
	limit   *ratelimit.Limiter
	tails   chan struct{} // held by each tail that is being read
	origins *http.CrossOriginProtection
	mux     *http.ServeMux
	logo    *logo
	ended   chan struct{} // closed when the server stops, for the tails
	end     func()

	patterns []string // of mux
}

const (
	// maxForm bounds a request's body, in bytes: an event's data that somebody pastes, and a little.
	maxForm = 2 << 20
	// maxTails is how many live lists are read at a time at each process.
	maxTails = 128
	// maxAddresses is how many addresses' counts are kept.
	maxAddresses = 10_000
)

// New returns the pages. It fails if a template or the logo cannot be read.
func New(deps Deps) (*Console, error) {
	p, err := newPages()
	if err != nil {
		return nil, fmt.Errorf("read the console's templates: %w", err)
	}
	c := &Console{
		deps: deps, api: newClients(deps.Conn), pages: p, tails: make(chan struct{}, maxTails), origins: http.NewCrossOriginProtection(),
		limit: ratelimit.New(deps.Config.SignInLimit, time.Minute, maxAddresses, deps.Now), ended: make(chan struct{}),
	}
	c.end = sync.OnceFunc(func() { close(c.ended) })
	if c.logo, err = readLogo(deps.Config.Brand.Logo); err != nil {
		return nil, fmt.Errorf("read the portal's logo: %w", err)
	}
	c.mux = c.routes()
	return c, nil
}

// End ends what is read live, so that a server can stop.
func (c *Console) End() { c.end() }

// Serves reports whether a path is one of the console's or of the portal's.
func Serves(path string) bool {
	return path == "/" || path+"/" == Prefix || path+"/" == PortalPrefix ||
		strings.HasPrefix(path, Prefix) || strings.HasPrefix(path, PortalPrefix)
}

// ServeHTTP serves a page. What a browser must not do with any of them is said here, once.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	portal := strings.HasPrefix(r.URL.Path, PortalPrefix)
	c.secure(w.Header(), portal)
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := c.origins.Check(r); err != nil {
		http.Error(w, "This form was sent from another site.", http.StatusForbidden)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// secure sets the headers of every answer. Scripts, styles and pictures come from here alone, none
// stands in a page, and no script makes another from text.
func (c *Console) secure(h http.Header, portal bool) {
	ancestors := "'none'"
	if portal && c.deps.Config.Ancestors != "" {
		ancestors = c.deps.Config.Ancestors
	} else {
		h.Set("X-Frame-Options", "DENY")
	}
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors "+ancestors)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !portal {
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
}
