package manage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api/internal/ratelimit"
)

// CallbackPrefix is the path below which receivers consent later.
const CallbackPrefix = "/callbacks/handshake/"

const (
	// callbackNames is the kind of name under which a callback stands, by the hash of its token.
	callbackNames = "handshake_callback"
	// callbackOf is the kind of name under which a webhook's one callback is found.
	callbackOf = "handshake_callback_of"
	// callbackKept is how long a receiver may take to consent.
	callbackKept = 7 * 24 * time.Hour
	// callbackLimit is how often an address may call in a minute, at each process: the token cannot
	// be guessed, but looking for it costs a read.
	callbackLimit = 60
	maxAddresses  = 100_000
)

// tokenForm is that of rand.Text.
var tokenForm = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// callback is what a token stands for. Its text is the owner of the token's name.
type callback struct {
	Account string    `json:"account"`
	Webhook string    `json:"webhook"`
	URL     string    `json:"url"`  // hash of the URL that was asked
	Rate    int32     `json:"rate"` // that was asked for
	Expire  time.Time `json:"expire"`
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// newCallback makes the URL through which a webhook's receiver may consent later; an earlier one of
// the webhook ends. It is empty if the deployment has no public URL. Only the token's hash is kept.
func (s *Server) newCallback(ctx context.Context, w *postriderv1.Webhook, rate int32) (string, error) {
	s.dropCallback(ctx, w.GetId())
	if s.deps.PublicURL == "" {
		return "", nil
	}
	token := rand.Text() // 130 bits
	owner, err := json.Marshal(callback{
		Account: w.GetAccountId(), Webhook: w.GetId(), URL: hashed(w.GetUrl()), Rate: rate, Expire: s.deps.Now().Add(callbackKept),
	})
	if err != nil {
		return "", fmt.Errorf("write callback: %w", err)
	}
	// The way back first, so that a crash in between leaves nothing that nobody finds.
	if err := s.deps.Store.Reserve(ctx, callbackOf, w.GetId(), hashed(token)); err != nil && !errors.Is(err, config.ErrExists) {
		return "", stored(err, "callback", w.GetId())
	}
	if err := s.deps.Store.Reserve(ctx, callbackNames, hashed(token), string(owner)); err != nil {
		return "", stored(err, "callback", w.GetId())
	}
	return strings.TrimSuffix(s.deps.PublicURL, "/") + CallbackPrefix + token, nil
}

// dropCallback ends a webhook's callback, if it has one. One that stays is worth nothing more than
// a consent that the receiver gave to the URL that it stands for.
func (s *Server) dropCallback(ctx context.Context, webhook string) {
	hash, err := s.deps.Store.Reserved(ctx, callbackOf, webhook)
	if err == nil {
		err = errors.Join(s.endCallback(ctx, hash), s.deps.Store.Release(ctx, callbackOf, webhook, hash))
	}
	if err != nil && !errors.Is(err, config.ErrNotFound) {
		s.deps.Logger.WarnContext(ctx, "a callback stays until it ends by itself", "webhook", webhook, "error", err)
	}
}

func (s *Server) endCallback(ctx context.Context, hash string) error {
	owner, err := s.deps.Store.Reserved(ctx, callbackNames, hash)
	if errors.Is(err, config.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.deps.Store.Release(ctx, callbackNames, hash, owner)
}

// HandshakeCallback serves what receivers call to consent later: GET or POST, once. The token is
// the credential.
func (s *Server) HandshakeCallback() http.Handler {
	limit := ratelimit.New(callbackLimit, time.Minute, maxAddresses, s.deps.Now)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			w.Header().Set("Allow", "GET, POST")
			fault.WriteProblem(w, fault.New(fault.Unimplemented, "METHOD_NOT_ALLOWED", "consent with GET or POST").
				WithStatus(http.StatusMethodNotAllowed), r.Header.Get("X-Request-Id"))
			return
		}
		address, _, _ := net.SplitHostPort(r.RemoteAddr)
		if verdict := limit.Take(address); !verdict.OK {
			fault.WriteProblem(w, fault.New(fault.Exhausted, "TOO_MANY_REQUESTS", "too many callbacks from this address").
				WithRetryAfter(max(verdict.Reset.Sub(s.deps.Now()), time.Second)), r.Header.Get("X-Request-Id"))
			return
		}
		if err := s.consent(r.Context(), strings.TrimPrefix(r.URL.Path, CallbackPrefix), r.Header); err != nil {
			fault.WriteProblem(w, err, r.Header.Get("X-Request-Id"))
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "Thank you: deliveries are allowed.\n")
	})
}

// consent does what a callback asks for. The answer is stored before the token ends: after a crash
// in between it can be used once more, for the same.
func (s *Server) consent(ctx context.Context, token string, h http.Header) error {
	unknown := fault.New(fault.NotFound, "NO_CALLBACK", "there is no such callback, or it was used")
	if !tokenForm.MatchString(token) {
		return unknown
	}
	owner, err := s.deps.Store.Reserved(ctx, callbackNames, hashed(token))
	if errors.Is(err, config.ErrNotFound) {
		return unknown
	}
	if err != nil {
		return stored(err, "callback", "")
	}
	var c callback
	if err := json.Unmarshal([]byte(owner), &c); err != nil {
		return fmt.Errorf("read callback: %w", err)
	}
	rec, _, err := s.deps.Store.GetWebhook(ctx, c.Account, c.Webhook)
	if err != nil && !errors.Is(err, config.ErrNotFound) {
		return stored(err, "webhook", c.Webhook)
	}
	if err != nil || hashed(rec.GetWebhook().GetUrl()) != c.URL || s.deps.Now().After(c.Expire) {
		return errors.Join(unknown, s.endCallback(ctx, hashed(token)))
	}
	answer := &postriderv1.Handshake{Consented: true, Origin: s.deps.Origin, AllowedRate: c.Rate, Time: timestamppb.New(s.deps.Now())}
	if text := h.Get(headerAllowedRate); text != "" {
		allowed, ok := parseRate(strings.TrimSpace(text))
		if !ok {
			return invalid(headerAllowedRate, "must be * or an integer of at least 1")
		}
		answer.AllowedRate = allowed
	}
	if _, _, err := s.keepHandshake(ctx, rec.GetWebhook(), answer); err != nil {
		return err
	}
	s.dropCallback(ctx, c.Webhook)
	return nil
}
