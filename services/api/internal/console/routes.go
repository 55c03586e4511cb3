package console

import (
	"net/http"
	"slices"
	"strings"
)

// site is one of the two sets of pages.
type site struct {
	prefix string
	portal bool
}

var (
	console = &site{prefix: Prefix}
	portal  = &site{prefix: PortalPrefix, portal: true}
)

// where says which of the sites have a route.
type where int

const (
	both where = iota
	consoleOnly
)

// route is one page of an account, or what one of its forms does.
type route struct {
	method string
	path   string // below the account's
	serve  func(*page) error
	on     where
}

// accountRoutes are all that show or change something of an account: one line each. The test of
// isolation walks over them.
func accountRoutes() []route {
	const get, post = http.MethodGet, http.MethodPost
	return []route{
		{get, "", overview, both},
		{get, "webhooks", listWebhooks, both},
		{get, "webhooks/new", newWebhook, both},
		{post, "webhooks/new", createWebhook, both},
		{get, "webhooks/{webhook}", showWebhook, both},
		{get, "webhooks/{webhook}/edit", editWebhook, both},
		{post, "webhooks/{webhook}/edit", updateWebhook, both},
		{post, "webhooks/{webhook}/pause", pauseWebhook, both},
		{post, "webhooks/{webhook}/resume", resumeWebhook, both},
		{post, "webhooks/{webhook}/rotate", rotateSecret, both},
		{post, "webhooks/{webhook}/secrets", showSecrets, both},
		{post, "webhooks/{webhook}/test", testWebhook, both},
		{post, "webhooks/{webhook}/ask", askReceiver, both},
		{post, "webhooks/{webhook}/delete", deleteWebhook, both},
		{get, "deliveries", listDeliveries, both},
		{get, "deliveries/tail", tailDeliveries, both},
		{get, "deliveries/{delivery}", showDelivery, both},
		{get, "deliveries/{delivery}/compare", compareAttempts, both},
		{post, "deliveries/{delivery}/retry", retryDelivery, both},
		{post, "deliveries/{delivery}/cancel", cancelDelivery, both},
		{get, "events", listEvents, both},
		{get, "events/{event}", showEvent, both},
		{post, "events/{event}/cancel", cancelEvent, both},
		{post, "events/{event}/expunge", expungeEvent, consoleOnly},
		{get, "search", search, both},
		{get, "palette", paletteEntries, both},
		{get, "dead-letters", listDeadLetters, both},
		{post, "dead-letters/redrive", redriveDeadLetters, both},
		{get, "replays", listReplays, both},
		{get, "replays/new", newReplay, both},
		{post, "replays/new", createReplay, both},
		{get, "replays/{replay}", showReplay, both},
		{post, "replays/{replay}/abort", abortReplay, both},
		{get, "event-types", listEventTypes, both},
		{get, "event-types/new", newEventType, consoleOnly},
		{post, "event-types/new", saveEventType, consoleOnly},
		{get, "event-types/{type}", showEventType, both},
		{get, "event-types/{type}/edit", editEventType, consoleOnly},
		{post, "event-types/{type}/edit", saveEventType, consoleOnly},
		{post, "event-types/{type}/delete", deleteEventType, consoleOnly},
		{get, "explain", explain, both},
		{post, "explain", explain, both},
		{get, "verify", verifySignature, both},
		{post, "verify", verifySignature, both},
		{get, "keys", listKeys, consoleOnly},
		{post, "keys", createKey, consoleOnly},
		{get, "keys/{key}/edit", editKey, consoleOnly},
		{post, "keys/{key}/edit", updateKey, consoleOnly},
		{post, "keys/{key}/delete", deleteKey, consoleOnly},
		{post, "portal-links", createPortalLink, consoleOnly},
		{get, "audit", listAudit, consoleOnly},
		{get, "settings", showSettings, consoleOnly},
		{post, "settings", saveSettings, consoleOnly},
		{post, "settings/signing-keys", rotateSigningKey, consoleOnly},
	}
}

// routes makes the mux, and fills the list of its patterns. The console's pages of an account lie
// below its id, so that their addresses can be shared; the portal has one account, which its link chose.
func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.Handler) {
		mux.Handle(pattern, h)
		c.patterns = append(c.patterns, pattern)
	}
	handle("GET /{$}", http.RedirectHandler(Prefix, http.StatusSeeOther))
	for _, s := range []*site{console, portal} {
		handle("GET "+s.prefix+"assets/{file}", http.HandlerFunc(serveAsset))
		handle("GET "+s.prefix+"session", c.open(s, c.hasSession))
		handle("POST "+s.prefix+"sign-out", c.open(s, c.signOut))
		handle(s.prefix, c.signedIn(s, notFound))
	}
	handle("GET /console/{$}", c.signedIn(console, start))
	handle("GET /console/sign-in", c.open(console, c.showSignIn))
	handle("POST /console/sign-in", c.open(console, c.signIn))
	handle("GET /console/accounts", c.signedIn(console, listAccounts))
	handle("POST /console/accounts", c.signedIn(console, createAccount))
	handle("GET /portal/enter", c.open(portal, c.enterPortal))
	handle("GET /portal/brand.css", http.HandlerFunc(c.serveBrand))
	handle("GET /portal/logo", http.HandlerFunc(c.serveLogo))
	for _, each := range accountRoutes() {
		handle(each.method+" "+consolePattern(each), c.signedIn(console, each.serve))
		if each.on == both {
			handle(each.method+" "+portalPattern(each), c.signedIn(portal, each.serve))
		}
	}
	return mux
}

// Patterns are those of every page, form and asset, as http.ServeMux has them.
func (c *Console) Patterns() []string { return slices.Clone(c.patterns) }

func consolePattern(r route) string { return exact(accountPrefix + "{account}/" + r.path) }

func portalPattern(r route) string { return exact(PortalPrefix + r.path) }

// exact keeps a pattern that ends in a slash from taking what is below it.
func exact(pattern string) string {
	if strings.HasSuffix(pattern, "/") {
		return pattern + "{$}"
	}
	return pattern
}
