package offblocks

import (
	"context"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/idempotency"
)

// clocksDiffer is how far a client's clock may be from ours in either direction.
const clocksDiffer = 300 * time.Second

// request is one whose caller, signature and headers are in order.
type request struct {
	http     *http.Request
	account  string
	body     []byte
	id       string // of the webhook in the path
	signedBy string // the client key; empty for the first upload of one
	key      string // of idempotency
	target   string // as the client saw it
}

// admit reads the request and checks it: first who calls, so that strangers learn nothing, then
// what every request must have, then the signature.
func (h *handler) admit(ctx context.Context, w http.ResponseWriter, r *http.Request, id string) (*request, *answer) {
	req := &request{http: r, id: id, target: h.deps.PublicURL.Target(r)}
	acc, err := h.accounts.GetAccount(ctx, &postriderv1.GetAccountRequest{})
	if isKind(err, fault.Invalid) {
		return nil, fail(http.StatusUnauthorized, "an account's key is needed")
	}
	if err != nil {
		return nil, translate(err)
	}
	req.account = acc.GetAccount().GetId()
	if failed := req.read(w); failed != nil {
		return nil, failed
	}
	if r.Method == http.MethodPut || r.Method == http.MethodDelete {
		if req.key, err = idempotency.ParseKey(r.Header); err != nil {
			return nil, fail(http.StatusBadRequest, err.Error())
		}
		if _, err := parseUUID(req.key); err != nil {
			return nil, fail(http.StatusBadRequest, "the header Idempotency-Key must be a UUID")
		}
	}
	return req, h.checkSignature(ctx, req)
}

// read reads the body, and holds it to its type and its digest.
func (r *request) read(w http.ResponseWriter) *answer {
	body, err := io.ReadAll(r.http.Body)
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		w.Header().Set("Connection", "close")
		return fail(http.StatusBadRequest, "the body is too large")
	}
	if err != nil {
		return fail(http.StatusBadRequest, "the body cannot be read")
	}
	r.body = body
	if len(body) == 0 && len(r.http.Header.Values(httpsig.HeaderContentDigest)) == 0 {
		return nil
	}
	if err := httpsig.CheckContentDigest(r.http.Header, body); err != nil {
		return fail(http.StatusBadRequest, err.Error())
	}
	if len(body) == 0 {
		return nil
	}
	if media, _, err := mime.ParseMediaType(r.http.Header.Get(contentType)); err != nil || media != "application/json" {
		return fail(http.StatusBadRequest, "the Content-Type must be application/json")
	}
	return nil
}

// message is the request as it was signed. The server moves Host out of the header.
func (r *request) message() *httpsig.Message {
	header := maps.Clone(r.http.Header)
	header["Host"] = []string{r.http.Host}
	return &httpsig.Message{Method: r.http.Method, URL: r.target, Header: header}
}

// checkSignature checks that a client key of the account signed the request.
func (h *handler) checkSignature(ctx context.Context, r *request) *answer {
	resp, err := h.keys.ListClientKeys(ctx, &postriderv1.ListClientKeysRequest{})
	if err != nil {
		return translate(err)
	}
	keys := make(map[string]httpsig.Key, len(resp.GetClientKeys()))
	for _, k := range resp.GetClientKeys() {
		pub, alg, err := httpsig.ParsePublicKey(k.GetPublicKey())
		if err != nil {
			return fail(http.StatusInternalServerError, "a client key cannot be read")
		}
		keys[k.GetId()] = httpsig.Key{Algorithm: alg, Key: pub}
	}
	find := func(id string) (httpsig.Key, bool) {
		k, ok := keys[id]
		return k, ok
	}
	if len(keys) == 0 && r.uploadsKey() {
		first, err := readClientKey(r.body)
		if err != nil || len(r.http.Header.Values(httpsig.HeaderSignature)) == 0 {
			// The credential alone vouches for it: there is no key yet to sign with. What is wrong
			// with the body is said where it is read.
			return nil
		}
		find = func(string) (httpsig.Key, bool) { return first, true } // it proves that its sender has it
	}
	verified, err := h.verifier(r, find).Verify(r.message(), r.body)
	if err != nil {
		return fail(http.StatusUnauthorized, err.Error())
	}
	r.signedBy = verified.KeyID
	return nil
}

func (h *handler) verifier(r *request, find func(string) (httpsig.Key, bool)) *httpsig.Verifier {
	v := &httpsig.Verifier{
		Keys:           find,
		Components:     []string{"@method", "@target-uri"},
		BodyComponents: []string{"content-type", "content-digest"},
		MaxAge:         clocksDiffer,
		MaxSkew:        clocksDiffer,
		Now:            h.deps.Now,
	}
	if r.key != "" {
		v.Components = append(v.Components, "idempotency-key")
	}
	return v
}

// once has the effect happen once for the request's Idempotency-Key. The id is that of what the
// request creates, or of what it found.
func (h *handler) once(ctx context.Context, r *request, id string, effect func(ctx context.Context, id string) answer) answer {
	got, replayed, err := h.deps.Keeper.Do(ctx, idempotency.Request{
		Account: r.account, Scope: idempotency.Scope(r.http), Key: r.key, ResourceID: id,
		Fingerprint: idempotency.Fingerprint(r.http.Method, r.target, r.body),
	}, func(ctx context.Context, id string) idempotency.Answer { return idempotency.Answer(effect(ctx, id)) })
	if err != nil {
		if status := idempotency.Status(err); status != 0 {
			return *fail(status, err.Error())
		}
		return *translate(err)
	}
	a := answer(got)
	if replayed {
		a.Headers = maps.Clone(a.Headers)
		if a.Headers == nil {
			a.Headers = make(map[string]string, 1)
		}
		a.Headers[idempotency.ReplayedHeader] = "true"
	}
	return a
}

// parseUUID reads a UUID in its usual form and gives it in lower case.
func parseUUID(text string) (string, error) {
	const length = 36
	if len(text) != length {
		return "", errors.New("no UUID")
	}
	id, err := uuid.Parse(text)
	return id.String(), err
}
