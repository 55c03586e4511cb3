package offblocks

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// key is a public key as the source system writes one. An answer has the base64 of the
// SubjectPublicKeyInfo (DER), which `openssl pkey -pubin -inform DER` reads after `base64 -d`.
type key struct {
	ID        string `json:"id"`
	PublicKey string `json:"publicKey"`
}

// uploadsKey says whether the request is one to add a client key.
func (r *request) uploadsKey() bool {
	return r.http.Method == http.MethodPut && strings.HasSuffix(r.http.URL.Path, "/auth/signing")
}

func readKey(body []byte) (*key, *answer) {
	var k key
	if err := json.Unmarshal(body, &k); err != nil || k.PublicKey == "" {
		return nil, fail(http.StatusBadRequest, "publicKey is required: the base64 of a PEM public key")
	}
	return &k, nil
}

// readClientKey is the key that a request uploads.
func readClientKey(body []byte) (httpsig.Key, error) {
	var k key
	if err := json.Unmarshal(body, &k); err != nil {
		return httpsig.Key{}, err
	}
	pub, alg, err := httpsig.ParsePublicKey(k.PublicKey)
	return httpsig.Key{Algorithm: alg, Key: pub}, err
}

// putClientKey adds a client key.
func (h *handler) putClientKey(ctx context.Context, r *request) answer {
	return h.once(ctx, r, "", func(ctx context.Context, _ string) answer {
		upload, failed := readKey(r.body)
		if failed != nil {
			return *failed
		}
		resp, err := h.keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: upload.PublicKey})
		if err != nil {
			return *translate(err)
		}
		return reply(http.StatusOK, key{resp.GetClientKey().GetId(), resp.GetClientKey().GetPublicKey()})
	})
}

// removeClientKey removes the key that signed the request, so that nobody removes another's last
// one by accident. It verifies nothing from then on, this request when it is repeated included.
func (h *handler) removeClientKey(ctx context.Context, r *request) answer {
	return h.once(ctx, r, r.signedBy, func(ctx context.Context, id string) answer {
		_, err := h.keys.DeleteClientKey(ctx, &postriderv1.DeleteClientKeyRequest{ClientKeyId: id})
		if err != nil && !isKind(err, fault.NotFound) {
			return *translate(err)
		}
		return answer{Status: http.StatusNoContent}
	})
}

// verificationKey is the key that verifies deliveries now.
func (h *handler) verificationKey(ctx context.Context, _ *request) answer {
	resp, err := h.keys.GetSigningKey(ctx, &postriderv1.GetSigningKeyRequest{Algorithm: string(httpsig.ECDSAP384)})
	if err != nil {
		return *translate(err)
	}
	return reply(http.StatusOK, key{resp.GetSigningKey().GetId(), resp.GetSigningKey().GetPublicKey()})
}

// verificationKeys are those that verify deliveries now, or will, or did until lately.
func (h *handler) verificationKeys(ctx context.Context, _ *request) answer {
	resp, err := h.keys.ListSigningKeys(ctx, &postriderv1.ListSigningKeysRequest{})
	if err != nil {
		return *translate(err)
	}
	keys := []key{}
	for _, k := range resp.GetSigningKeys() {
		if k.GetAlgorithm() == string(httpsig.ECDSAP384) {
			keys = append(keys, key{k.GetId(), k.GetPublicKey()})
		}
	}
	return reply(http.StatusOK, keys)
}
