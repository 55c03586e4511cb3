//go:build e2e

package compat

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/test/system"
)

// offblocksClient is a client of the surface: it signs its requests with a key of its account.
type offblocksClient struct {
	*system.Account
	key   crypto.Signer
	alg   httpsig.Algorithm
	keyID string
}

// offblocksCall is a request that a test may spoil.
type offblocksCall struct {
	method, path, body string
	bearer             string            // default: the account's key
	idempotency        string            // default: a new UUID for PUT and DELETE; "-" for none
	without            []string          // components that are not covered
	digest             string            // default: by SHA-256; "-" for none
	header             map[string]string // set after signing; "" removes
	age                time.Duration     // of the signature
	unsigned           bool
}

type offblocksAnswer struct {
	status int
	body   string
	header http.Header
}

// offblocksWebhook is one as the page describes it.
type offblocksWebhook struct {
	ID          string    `json:"id"`
	CallbackURL string    `json:"callbackUrl"`
	Types       []string  `json:"types"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// newOffblocksClient uploads a new key for the account.
func newOffblocksClient(t *testing.T, a *system.Account, alg httpsig.Algorithm) *offblocksClient {
	t.Helper()
	key, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	c := &offblocksClient{Account: a, key: key, alg: alg, keyID: "first"}
	var uploaded struct{ ID string }
	c.must(t, offblocksCall{method: http.MethodPut, path: "/auth/signing", body: offblocksUpload(t, key)}).into(t, &uploaded)
	c.keyID = uploaded.ID
	return c
}

// offblocksUpload is the body that uploads a key: the base64 of its PEM.
func offblocksUpload(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return fmt.Sprintf(`{"publicKey":%q}`, base64.StdEncoding.EncodeToString(text))
}

func (c *offblocksClient) do(t *testing.T, q offblocksCall) offblocksAnswer {
	t.Helper()
	url := c.APIURL + "/compat/offblocks" + q.path
	h := http.Header{}
	components := []string{"@method", "@target-uri"}
	if q.idempotency == "" && (q.method == http.MethodPut || q.method == http.MethodDelete) {
		q.idempotency = uuid.NewString()
	}
	if q.idempotency != "" && q.idempotency != "-" {
		h.Set("Idempotency-Key", q.idempotency)
		components = append(components, "idempotency-key")
	}
	if q.body != "" {
		h.Set("Content-Type", "application/json")
		components = append(components, "content-type")
		if q.digest == "" {
			q.digest = httpsig.ContentDigest([]byte(q.body))
		}
		if q.digest != "-" {
			h.Set("Content-Digest", q.digest)
			components = append(components, "content-digest")
		}
	}
	for _, name := range q.without {
		components = strings.Fields(strings.Replace(" "+strings.Join(components, " ")+" ", " "+name+" ", " ", 1))
	}
	if !q.unsigned {
		signer, err := httpsig.NewSigner(c.alg, c.keyID, c.key)
		require.NoError(t, err)
		require.NoError(t, httpsig.Sign(&httpsig.Message{Method: q.method, URL: url, Header: h},
			&httpsig.Params{Components: components, Created: time.Now().Add(-q.age)}, signer))
	}
	for name, value := range q.header {
		h.Set(name, value)
	}
	bearer := q.bearer
	if bearer == "" {
		bearer = c.Key
	}
	if bearer != "-" {
		h.Set("Authorization", "Bearer "+bearer)
	}
	return offblocksExchange(t, q.method, url, q.body, h)
}

// offblocksExchange sends a request with these headers and reads the answer.
func offblocksExchange(t *testing.T, method, url, body string, h http.Header) offblocksAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = h
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return offblocksAnswer{resp.StatusCode, string(raw), resp.Header}
}

// must is do for calls that succeed.
func (c *offblocksClient) must(t *testing.T, q offblocksCall) offblocksAnswer {
	t.Helper()
	got := c.do(t, q)
	require.Less(t, got.status, 300, "%s %s: %s", q.method, q.path, got.body)
	return got
}

func (c *offblocksClient) put(t *testing.T, body string) offblocksWebhook {
	t.Helper()
	var w offblocksWebhook
	c.must(t, offblocksCall{method: http.MethodPut, path: "/v1/webhooks", body: body}).into(t, &w)
	return w
}

func (c *offblocksClient) get(t *testing.T, id string) (status int, w offblocksWebhook) {
	t.Helper()
	got := c.do(t, offblocksCall{method: http.MethodGet, path: "/v1/webhooks/" + id})
	if got.status == http.StatusOK {
		got.into(t, &w)
	}
	return got.status, w
}

func (a offblocksAnswer) into(t *testing.T, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.body), v), a.body)
}
