package profile

import (
	"net/http"
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/signature"
)

const (
	// messageTag says for which application the signatures are.
	messageTag = "webhook"
	// messageLife is how long after an attempt's start its signature counts.
	messageLife = 5 * time.Minute
)

// SigningAlgorithm is the algorithm of the account's signing keys that the webhook's deliveries
// need; ok is false if they carry no HTTP message signature.
func SigningAlgorithm(w *postriderv1.Webhook) (alg httpsig.Algorithm, ok bool) {
	if p, found := Lookup(w.GetProfile()); found && p.Name() == (offblocks{}).Name() {
		return httpsig.ECDSAP384, true
	}
	return httpsig.Ed25519, messageSigned(w)
}

// messageSigned says whether the owner asked for HTTP message signatures.
func messageSigned(w *postriderv1.Webhook) bool {
	mode := w.GetOptions().GetMessageSignature()
	return mode != "" && mode != messageNone
}

// withMessageSignature adds an HTTP message signature (RFC 9421) to what a profile signs itself.
type withMessageSignature struct{ Profile }

func (p withMessageSignature) Sign(r *Rendered, in *Input, at Attempt) error {
	if len(at.Signers) == 0 {
		return ErrNoSigner // before a header is set
	}
	if err := p.Profile.Sign(r, in, at); err != nil {
		return err
	}
	return signMessage(r, in, at)
}

// signMessage sets Content-Digest, Signature-Input and Signature. What the components bind: the
// target as the receiver registered it, the body by its digest, and the headers by which receivers
// tell one message from another and old from new. A request without a body has no headers of one;
// its parameters are in the target.
func signMessage(r *Rendered, in *Input, at Attempt) error {
	if len(at.Signers) == 0 {
		return ErrNoSigner
	}
	components := []string{"@method", "@target-uri"}
	parts := in.Webhook.GetOptions().GetMessageSignature() == messageAuthority
	if parts {
		components = []string{"@method", "@authority", "@path", "@query"}
	}
	if r.Method != http.MethodGet {
		r.Header[httpsig.HeaderContentDigest] = []string{httpsig.ContentDigest(r.Body)}
		if !parts { // proxies that rewrite targets may write the type in another way too
			components = append(components, "content-type")
		}
		components = append(components, "content-digest")
	}
	for _, h := range [...]struct{ header, component string }{
		{signature.HeaderID, "webhook-id"}, {signature.HeaderTimestamp, "webhook-timestamp"},
	} {
		if len(r.Header[h.header]) > 0 {
			components = append(components, h.component)
		}
	}
	return httpsig.Sign(
		&httpsig.Message{Method: r.Method, URL: r.URL, Header: r.Header},
		&httpsig.Params{Components: components, Created: at.Time, Expires: at.Time.Add(messageLife), Tag: messageTag},
		at.Signers...,
	)
}
