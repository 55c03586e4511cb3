// Package deadletterstream owns the stream DEADLETTERS: deliveries that will not be tried again,
// with their payload, for people to look at and to redrive. It may lose what is older than
// Config.MaxAge.
package deadletterstream

import (
	"context"
	"errors"
	"time"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
)

// ErrNotFound says that there is no such dead letter.
var ErrNotFound = errors.New("dead letter not found")

// Config is what the stream may hold.
type Config struct {
	MaxAge   time.Duration `conf:"max-age" help:"how long dead letters are kept"`
	MaxBytes int64         `conf:"max-bytes" help:"most bytes of dead letters; -1 for no limit"`
}

// Default keeps dead letters for 30 days.
func Default() Config { return Config{MaxAge: 30 * 24 * time.Hour, MaxBytes: -1} }

// Item is a stored dead letter.
type Item struct {
	// Sequence in the stream.
	Sequence uint64
	// Letter is the dead letter itself.
	Letter *recordv1.DeadLetter
}

// Stream is DEADLETTERS.
type Stream struct{}

// Ensure creates DEADLETTERS, or brings its limits to the configuration.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Stream, error) {
	return nil, errors.ErrUnsupported
}

// Publish stores a dead letter; a second one of the same delivery and death replaces nothing and
// is dropped. See stream.Publisher.Publish for when done is called.
func (s *Stream) Publish(ctx context.Context, l *recordv1.DeadLetter, done func(error)) error {
	return errors.ErrUnsupported
}

// Get reads the last dead letter of a delivery, without knowing its webhook.
func (s *Stream) Get(ctx context.Context, account postrider.AccountID, delivery postrider.DeliveryID) (*recordv1.DeadLetter, uint64, error) {
	return nil, 0, errors.ErrUnsupported
}

// List reads at most limit dead letters of an account, or of one of its webhooks, with sequences
// after the given one, oldest first.
func (s *Stream) List(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, after uint64, limit int) ([]Item, error) {
	return nil, errors.ErrUnsupported
}

// Remove removes a dead letter by its sequence, after it was redriven; ErrNotFound if it is gone.
func (s *Stream) Remove(ctx context.Context, sequence uint64) error { return errors.ErrUnsupported }
