// Package httpsig signs and verifies HTTP messages as RFC 9421 says, with the Content-Digest of
// RFC 9530. It owns the signature base, the five algorithms that Postrider knows, the forms of
// their keys (PEM, base64, JWK), and the policy by which a signature is believed. It keeps nothing.
//
// What of RFC 9421 is not here is refused by name: trailers (`tr`), and the targets of CONNECT and
// `OPTIONS *`.
package httpsig

import (
	"net/http"
	"time"
)

// Algorithm is a name of the registry "HTTP Signature Algorithms" (RFC 9421, section 6.2).
type Algorithm string

// The algorithms.
const (
	Ed25519   Algorithm = "ed25519"
	ECDSAP256 Algorithm = "ecdsa-p256-sha256"
	ECDSAP384 Algorithm = "ecdsa-p384-sha384"
	RSAPSS    Algorithm = "rsa-pss-sha512"
	HMAC      Algorithm = "hmac-sha256"
)

// Names of the fields.
const (
	HeaderSignature      = "Signature"
	HeaderSignatureInput = "Signature-Input"
	HeaderContentDigest  = "Content-Digest"
)

// Message is what a signature is over. The body enters by its Content-Digest.
type Message struct {
	// Method is the method of a request, as sent.
	Method string
	// URL is the target URI of a request, exactly as sent or registered: absolute, without fragment.
	URL string
	// Header holds the fields. Host and Content-Length count only if they are in it.
	Header http.Header
	// Status is the status of a response; 0 for a request.
	Status int
	// Request is what a response answers, for components with the parameter `req`.
	Request *Message
}

// Params are the parameters of a signature. What is zero is left out.
type Params struct {
	// Components are the covered components in their order: a name such as `@method` or
	// `content-digest`, with parameters as in `@query-param;name="Pet"`.
	Components []string
	// Created is when the signature was made, to the second.
	Created time.Time
	// Expires is when it stops counting, to the second.
	Expires time.Time
	// Nonce is a value that is used once.
	Nonce string
	// Tag says for which application it is.
	Tag string
}
