// Package publicurl knows the URL at which clients reach this service, which only its operator
// knows where a proxy stands in between. It holds no state.
package publicurl

import (
	"net/http"
	"net/url"
	"strings"
)

// Base is the URL below which clients see the paths of this service, such as
// https://hooks.example.com; empty means the scheme and the host of each request.
type Base string

// Rule is what must hold of a base that Valid refuses.
const Rule = "must be a URL such as https://hooks.example.com, without a slash at its end"

// Valid reports whether the base can be one.
func (b Base) Valid() bool {
	if b == "" {
		return true
	}
	u, err := url.Parse(string(b))
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil &&
		!strings.ContainsAny(string(b), "?#") && !strings.HasSuffix(string(b), "/")
}

// Target is the target URI of the request as its client saw it, with path and query as they were
// sent.
func (b Base) Target(r *http.Request) string { return b.Of(r) + requestTarget(r) }

// Of is the base for the request.
func (b Base) Of(r *http.Request) string {
	if b != "" {
		return string(b)
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// requestTarget is path and query as they stand in the request line.
func requestTarget(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	return r.URL.RequestURI() // the absolute form, or a request that no server read
}
