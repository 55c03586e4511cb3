// Package verify is for those who receive webhooks: it says whether a request is genuine, of this
// time, and not seen before. It knows Standard Webhooks (v1 and v1a), the signatures of the systems
// that Postrider can speak like (package signature lists them), and HTTP message signatures
// (RFC 9421).
//
// A Verifier is made once, from the secrets in force, and is safe for concurrent use:
//
//	v, err := verify.Standard([]string{os.Getenv("WEBHOOK_SECRET")}, verify.Options{})
//	http.Handle("/hooks", v.Handler(http.HandlerFunc(handle)))
//
// Signatures are over the very bytes that were sent, so a body must be verified before anything
// decodes it, and what is decoded must be what was verified: Handler reads the body, and hands on
// what it read.
//
// A genuine message may come more than once. Its next attempt has the same id and a later time:
// what must not be done twice needs a record of the ids that were done. A recording that somebody
// plays again has the same id and the same time: Options.Window refuses it. The package keeps
// nothing but that window, and losing it costs no message.
package verify
