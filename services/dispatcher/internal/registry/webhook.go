package registry

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/profile"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// Timeout is how long an attempt may take in all.
type Timeout = time.Duration

// Reasons for holding a webhook's deliveries.
const (
	HeldPaused   = "paused"
	HeldDisabled = "disabled"
	HeldGone     = "gone"
)

// Webhook is a webhook at one revision. It is safe for concurrent use.
type Webhook struct {
	// Config is what its owner configured.
	Config *postriderv1.Webhook
	// Revision of the configuration.
	Revision uint64

	record *recordv1.Webhook
	opts   *Options
	gone   atomic.Bool
	told   atomic.Bool
	once   sync.Once
	ready  Ready
	err    error
}

// Ready is what an attempt needs of a webhook.
type Ready struct {
	// Profile renders and signs.
	Profile profile.Profile
	// URL is the configured one, parsed. It must not be changed.
	URL *url.URL
	// MaskedURL is for people.
	MaskedURL string
	// Schedule is when to try again.
	Schedule retry.Schedule
	// Timeout bounds an attempt.
	Timeout time.Duration

	secrets   []secret
	now       []signature.Secret // all of them, while none expires
	algorithm httpsig.Algorithm
	signed    bool // by the account's keys, too
}

type secret struct {
	signature.Secret
	expires time.Time // zero: never
}

// Held says whether the webhook's deliveries are held, and why.
func (w *Webhook) Held() (reason string, held bool) {
	switch w.Config.GetState() {
	case postriderv1.WebhookState_WEBHOOK_STATE_PAUSED:
		return HeldPaused, true
	case postriderv1.WebhookState_WEBHOOK_STATE_DISABLED:
		return HeldDisabled, true
	case postriderv1.WebhookState_WEBHOOK_STATE_UNSPECIFIED, postriderv1.WebhookState_WEBHOOK_STATE_ACTIVE,
		postriderv1.WebhookState_WEBHOOK_STATE_DELETED:
	}
	return HeldGone, w.gone.Load()
}

// MarkGone holds the webhook's deliveries, at this revision, until the configuration says so
// itself. It reports whether that is new.
func (w *Webhook) MarkGone() bool { return w.gone.CompareAndSwap(false, true) }

// Complain reports true once, so that trouble with the webhook is logged once for its revision.
func (w *Webhook) Complain() bool { return w.told.CompareAndSwap(false, true) }

// MaxInFlight is the most attempts at once.
func (w *Webhook) MaxInFlight() int {
	if n := w.Config.GetMaxInFlight(); n > 0 {
		return int(n)
	}
	return w.opts.DefaultMaxInFlight
}

// Orderings of a webhook's deliveries.
const (
	OrderingStrict = "strict"
	OrderingKey    = "key"
)

// Ordered says that the webhook has lines.
func (w *Webhook) Ordered() bool {
	o := w.Config.GetOrdering()
	return o == OrderingStrict || o == OrderingKey
}

// Keyed says that each ordering key has a line of its own.
func (w *Webhook) Keyed() bool { return w.Config.GetOrdering() == OrderingKey }

// Line says whether a delivery to the webhook has a place in a line, and whether that is one of its ordering
// key alone. What is replayed or was redriven comes so much later that it has none. An ordering that this
// version does not know is none. Series is the delivery's: who works on it may be writing its progress.
func (w *Webhook) Line(d *recordv1.Delivery, series int32) (keyed, ordered bool) {
	switch w.Config.GetOrdering() {
	case OrderingStrict:
		return false, d.GetReplayId() == "" && series == 0
	case OrderingKey:
		return true, d.GetOrderingKey() != "" && d.GetReplayId() == "" && series == 0
	}
	return false, false
}

// RateLimit is the most attempts a second, 0 for no limit: the owner's, or what the receiver
// allowed in its handshake if that is less.
func (w *Webhook) RateLimit() float64 {
	own, allowed := w.Config.GetRateLimit(), profile.AllowedRate(w.Config)
	if own == 0 || allowed != 0 && allowed < own {
		return allowed
	}
	return own
}

// Timeout bounds an attempt.
func (w *Webhook) Timeout() time.Duration {
	if d := w.Config.GetAttemptTimeout().AsDuration(); d > 0 {
		return d
	}
	return w.opts.DefaultTimeout
}

// Ready prepares the webhook once for all attempts of its revision. An error is our own trouble,
// such as a secret sealed under an unknown key, and no fault of a delivery.
func (w *Webhook) Ready() (*Ready, error) {
	w.once.Do(func() { w.err = w.prepare() })
	return &w.ready, w.err
}

func (w *Webhook) prepare() error {
	p, err := profile.For(w.Config)
	if err != nil {
		return fmt.Errorf("prepare webhook %s: %w", w.Config.GetId(), err)
	}
	u, err := url.Parse(w.Config.GetUrl())
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// The URL may hold a secret, and so may the error that repeats it.
		return fmt.Errorf("prepare webhook %s: its URL cannot be used", w.Config.GetId())
	}
	schedule, err := retry.FromProto(w.Config.GetRetrySchedule(), p.Schedule())
	if err != nil {
		return fmt.Errorf("prepare webhook %s: %w", w.Config.GetId(), err)
	}
	w.ready = Ready{Profile: p, URL: u, MaskedURL: MaskURL(u), Schedule: schedule, Timeout: w.Timeout()}
	w.ready.algorithm, w.ready.signed = profile.SigningAlgorithm(w.Config)
	if w.opts.RetryScale != 1 {
		w.ready.Schedule = schedule.Scale(w.opts.RetryScale)
	}
	return w.openSecrets(p)
}

func (w *Webhook) openSecrets(p profile.Profile) error {
	var errs []error
	expiring := false
	for _, sealed := range w.record.GetSecrets() {
		s, err := w.open(p, sealed)
		if err != nil {
			errs = append(errs, fmt.Errorf("prepare webhook %s: secret %s: %w", w.Config.GetId(), sealed.GetId(), err))
			continue
		}
		opened := secret{Secret: s}
		if sealed.GetExpireTime() != nil {
			opened.expires, expiring = sealed.GetExpireTime().AsTime(), true
		}
		w.ready.secrets = append(w.ready.secrets, opened)
		w.ready.now = append(w.ready.now, s)
	}
	if expiring {
		w.ready.now = nil
	}
	return errors.Join(errs...)
}

func (w *Webhook) open(p profile.Profile, sealed *recordv1.SealedSecret) (signature.Secret, error) {
	text, err := w.opts.Opener.Open(sealed.GetCiphertext(), config.SecretContext(w.Config.GetAccountId(), w.Config.GetId(), sealed.GetId()))
	if err != nil {
		return signature.Secret{}, err
	}
	return p.ParseSecret(string(text))
}

// Secrets are those in force at a time, newest first. The result must not be changed.
func (r *Ready) Secrets(at time.Time) []signature.Secret {
	if r.now != nil {
		return r.now
	}
	var out []signature.Secret
	for _, s := range r.secrets {
		if s.expires.IsZero() || at.Before(s.expires) {
			out = append(out, s.Secret)
		}
	}
	return out
}

// Signers are the account's keys that sign the webhook's requests at a time, newest first; none if
// the webhook wants none.
func (r *Ready) Signers(a *Account, at time.Time) ([]*httpsig.Signer, error) {
	if !r.signed {
		return nil, nil
	}
	return a.Signers(r.algorithm, at)
}

// mask stands in for what may be secret.
const mask = "***"

// MaskURL is a URL for people: scheme, host and path as they are, the values of its parameters
// masked, because parameters carry tokens and, in some formats, personal data.
func MaskURL(u *url.URL) string {
	var b strings.Builder
	b.WriteString(u.Scheme)
	b.WriteString("://")
	b.WriteString(u.Host)
	b.WriteString(u.EscapedPath())
	if u.RawQuery == "" {
		return b.String()
	}
	for i, pair := range strings.Split(u.RawQuery, "&") {
		if i == 0 {
			b.WriteByte('?')
		} else {
			b.WriteByte('&')
		}
		name, _, valued := strings.Cut(pair, "=")
		b.WriteString(name)
		if valued {
			b.WriteString("=" + mask)
		}
	}
	return b.String()
}
