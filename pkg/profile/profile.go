// Package profile renders and signs deliveries in the form of each system that webhooks speak to.
// A profile is data and one small file. Rendering is pure: the same bytes for every attempt of a
// delivery; what belongs to one attempt (timestamps, signatures) is added by Sign. The package
// holds nothing that could be lost.
package profile

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// Default is the name of the profile of webhooks that name none.
const Default = "standard"

// ErrUnrenderable means that the event has no form in the profile. The delivery is permanently
// failed; its error says why.
var ErrUnrenderable = errors.New("the event cannot be rendered")

// ErrURLTooLong means that the request's URL would have more than MaxTargetBytes, as data that
// travel in it are too long for it. The delivery is permanently failed.
var ErrURLTooLong = fmt.Errorf("the URL would be longer than %d bytes", MaxTargetBytes)

// MaxTargetBytes is the longest URL that is sent.
const MaxTargetBytes = 8 << 10

// What follows is trouble of ours, and no fault of a delivery.
var (
	// ErrNoSecret means that none of the attempt's secrets can sign.
	ErrNoSecret = errors.New("the webhook has no secret that can sign")
	// ErrNoSigner means that the account has no signing key in force.
	ErrNoSigner = errors.New("the account has no signing key in force")
	// ErrNoAccount means that the account, of which the format tells something, is not known.
	ErrNoAccount = errors.New("the account is not known")
)

// Profile is how one system wants its webhooks.
type Profile interface {
	// Name is the profile's name, as webhooks carry it.
	Name() string
	// Schedule is the retry schedule of webhooks that state none. The caller must not change it.
	Schedule() retry.Schedule
	// ValidateWebhook says what is wrong with a webhook at save time: its URL, method, headers,
	// retry schedule, and the profile's own rules. Fields are named below "webhook.". Event types,
	// filter and scopes belong to package match, limits to the API.
	ValidateWebhook(w *postriderv1.Webhook) []fault.Violation
	// NewSecret makes a secret of a kind ("hmac", "ed25519"; empty: "hmac") in the profile's form.
	// An *fault.Error of kind Invalid says that the profile has no such kind.
	NewSecret(kind string) (text, publicKey string, err error)
	// ParseSecret reads a secret in the profile's form. Errors do not repeat the text.
	ParseSecret(text string) (signature.Secret, error)
	// Render makes the request, except for what belongs to an attempt. It is pure, and the result
	// shares in.Data. The error is ErrUnrenderable with its reason, ErrURLTooLong, or ErrNoAccount.
	Render(in *Input) (*Rendered, error)
	// Sign sets what belongs to the attempt, in place of what it was: headers, and, where the format
	// holds the time or a token in it, the body or the URL. The error is ErrNoSecret, or ErrNoSigner.
	Sign(r *Rendered, in *Input, at Attempt) error
}

// Input is what a request is made from. Nothing in it is changed.
type Input struct {
	// Delivery is the delivery, whose own data is not looked at.
	Delivery *recordv1.Delivery
	// Webhook is where it goes.
	Webhook *postriderv1.Webhook
	// Account owns both. Some profiles do without.
	Account *postriderv1.Account
	// Data is the event's payload, byte for byte.
	Data []byte
}

// Rendered is a request that is ready for custom headers and signing.
type Rendered struct {
	// Method is the request's.
	Method string
	// URL and Body are final once Sign has been called.
	URL string
	// Header is the request's, without the custom ones.
	Header http.Header
	// Body is nil for a request without one.
	Body []byte
	// Sensitive are texts in the request that must not be kept, wherever they come back.
	Sensitive []string

	// before and after stand around what belongs to an attempt, in the body or in the URL.
	before, after []byte
}

// around is the text between before and after, put there.
func (r *Rendered) around(text string) []byte {
	out := make([]byte, 0, len(r.before)+len(text)+len(r.after))
	out = append(out, r.before...)
	out = append(out, text...)
	return append(out, r.after...)
}

// Attempt is what belongs to one attempt.
type Attempt struct {
	// Time is when the attempt starts.
	Time time.Time
	// Number is 1 for the first attempt of the schedule, 0 for tests and manual retries.
	Number int
	// Secrets are those in force, newest first.
	Secrets []signature.Secret
	// Signers are the account's signing keys in force of SigningAlgorithm, newest first.
	Signers []*httpsig.Signer
}

// profiles lists every profile; it is never changed.
var profiles = list()

// list is every profile: those with a form of their own, and those that are a scheme and no more.
func list() []Profile {
	all := []Profile{
		standard{}, cloudEvents{}, jewelMusic{}, jewelMusicSDK{}, &audata{}, labelst{}, offblocks{}, ingedata{}, custom{},
	}
	for _, named := range signature.Schemes() {
		all = append(all, schemed{named.Name, named.Scheme})
	}
	return all
}

// For is the webhook's profile with the webhook's options read. What renders, signs and reads
// secrets is this; what validates is the profile that Lookup finds.
func For(w *postriderv1.Webhook) (Profile, error) {
	p, ok := Lookup(w.GetProfile())
	if !ok {
		return nil, fmt.Errorf("profile %q is not known", w.GetProfile())
	}
	if _, ok := p.(custom); ok {
		s, err := signature.ParseScheme(w.GetOptions().GetSignatureScheme())
		if err != nil {
			return nil, fmt.Errorf("read the signature scheme: %w", err)
		}
		p = schemed{p.Name(), s}
	}
	if _, always := p.(offblocks); !always && messageSigned(w) {
		p = withMessageSignature{p}
	}
	return p, nil
}

// Lookup finds a profile by its name; an empty name is Default.
func Lookup(name string) (Profile, bool) {
	if name == "" {
		name = Default
	}
	for _, p := range profiles {
		if p.Name() == name {
			return p, true
		}
	}
	return nil, false
}

// Names are the names of all profiles.
func Names() []string {
	names := make([]string, len(profiles))
	for i, p := range profiles {
		names[i] = p.Name()
	}
	return names
}
