// Package profile renders and signs deliveries in the form of each system that webhooks speak to.
// A profile is data and one small file. Rendering is pure: the same bytes for every attempt of a
// delivery; what belongs to one attempt (timestamps, signatures) is added by Sign. The package
// holds nothing that could be lost.
package profile

import (
	"errors"
	"net/http"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/retry"
	"github.com/postrider/postrider/pkg/signature"
)

// Default is the name of the profile of webhooks that name none.
const Default = "standard"

// ErrUnrenderable means that the event has no form in the profile. The delivery is permanently
// failed; its error says why.
var ErrUnrenderable = errors.New("the event cannot be rendered")

// ErrNoSecret means that none of the attempt's secrets can sign.
var ErrNoSecret = errors.New("the webhook has no secret that can sign")

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
	// shares in.Data. An error is ErrUnrenderable with its reason.
	Render(in *Input) (*Rendered, error)
	// Sign sets the headers that belong to the attempt, in place of what they were. An error is
	// ErrNoSecret.
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
	Method string
	URL    string
	Header http.Header
	Body   []byte
}

// Attempt is what belongs to one attempt.
type Attempt struct {
	// Time is when the attempt starts.
	Time time.Time
	// Number is 1 for the first attempt of the schedule, 0 for tests and manual retries.
	Number int
	// Secrets are those in force, newest first.
	Secrets []signature.Secret
}

// profiles lists every profile; it is never changed.
var profiles = []Profile{standard{}, jewelMusic{}}

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
