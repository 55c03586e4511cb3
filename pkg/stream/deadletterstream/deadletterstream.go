// Package deadletterstream owns the stream DEADLETTERS: deliveries that will not be tried again,
// with their payload, for people to look at and to redrive. It may lose what is older than
// Config.MaxAge.
package deadletterstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// ErrNotFound says that there is no such dead letter.
var ErrNotFound = errors.New("dead letter not found")

const (
	name    = "DEADLETTERS"
	prefix  = "deadletters."
	window  = 256
	maxSize = 2 << 20 // a payload of 1 MiB and what is around it
)

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
type Stream struct {
	c         *stream.Client
	publisher *stream.Publisher
	maxAge    time.Duration
}

// Ensure creates DEADLETTERS, or brings its limits to the configuration. The stream refuses when
// it is full: a delivery that cannot be buried stays where it is.
func Ensure(ctx context.Context, c *stream.Client, cfg Config) (*Stream, error) {
	if _, err := c.EnsureStream(ctx, streamConfig(cfg)); err != nil {
		return nil, err
	}
	return &Stream{c: c, publisher: c.NewPublisher("dead letters", window), maxAge: cfg.MaxAge}, nil
}

func streamConfig(cfg Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: "deliveries that will not be tried again", Subjects: []string{prefix + ">"},
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		MaxAge: cfg.MaxAge, MaxBytes: cfg.MaxBytes, MaxMsgSize: maxSize, AllowDirect: true,
	}
}

// Inspect says how DEADLETTERS stands against the configuration. It changes nothing.
func Inspect(ctx context.Context, c *stream.Client, cfg Config) (stream.Report, error) {
	return c.InspectStream(ctx, streamConfig(cfg))
}

func subject(account, webhook, delivery string) string {
	return prefix + account + "." + webhook + "." + delivery
}

// Publish stores a dead letter; a second one of the same delivery and death replaces nothing and
// is dropped. See stream.Publisher.Publish for when done is called.
//
// A death is named by the attempt that led to it, or else by its time.
func (s *Stream) Publish(ctx context.Context, l *recordv1.DeadLetter, done func(error)) error {
	data, err := proto.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode dead letter of %s: %w", l.GetDelivery().GetId(), err)
	}
	d := l.GetDelivery()
	if err := stream.CheckTokens(d.GetAccountId(), d.GetWebhookId(), d.GetId()); err != nil {
		return fmt.Errorf("subject of dead letter: %w", err)
	}
	m := &nats.Msg{
		Subject: subject(d.GetAccountId(), d.GetWebhookId(), d.GetId()), Data: data,
		Header: nats.Header{jetstream.MsgIDHeader: {d.GetId() + ":" + death(l)}},
	}
	return s.publisher.Publish(ctx, m, func(_ stream.Ack, err error) { done(err) })
}

// death tells one death of a delivery from the next: redriven at once, it may die of as many
// attempts as before while its first message id is remembered.
func death(l *recordv1.DeadLetter) string {
	switch {
	case l.GetLastAttempt().GetAttemptId() != "":
		return l.GetLastAttempt().GetAttemptId()
	case l.GetTime() != nil:
		return strconv.FormatInt(l.GetTime().AsTime().UnixNano(), 36)
	}
	return strconv.Itoa(int(l.GetDelivery().GetProgress().GetAttempts()))
}

// Get reads the last dead letter of a delivery, without knowing its webhook.
func (s *Stream) Get(ctx context.Context, account postrider.AccountID, delivery postrider.DeliveryID) (*recordv1.DeadLetter, uint64, error) {
	if err := stream.CheckTokens(string(account), string(delivery)); err != nil {
		return nil, 0, fmt.Errorf("read dead letter: %w", ErrNotFound)
	}
	found, err := s.c.LastMatching(ctx, name, subject(string(account), "*", string(delivery)))
	if errors.Is(err, stream.ErrNotFound) {
		return nil, 0, ErrNotFound
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read dead letter of %s: %w", delivery, err)
	}
	letter, err := decode(found)
	return letter, found.Sequence, err
}

// List reads at most limit dead letters of an account, or of one of its webhooks, with sequences
// after the given one, oldest first.
func (s *Stream) List(ctx context.Context, account postrider.AccountID, webhook postrider.WebhookID, after uint64, limit int) ([]Item, error) {
	if webhook == "" {
		webhook = "*"
	}
	var items []Item
	scan := stream.Scan{Filter: subject(string(account), string(webhook), "*"), From: after + 1, Page: limit + 1}
	err := s.c.Scan(ctx, name, scan, func(m *stream.Stored) error {
		letter, err := decode(m)
		if err != nil {
			return err
		}
		if items = append(items, Item{Sequence: m.Sequence, Letter: letter}); len(items) >= limit {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("list dead letters of %s: %w", account, err)
	}
	return items, nil
}

// DiedBefore gives the dead letters of all accounts that were made before a time to fn, oldest
// first, those that will expire next. It stops at fn's first error and returns it.
func (s *Stream) DiedBefore(ctx context.Context, cutoff time.Time, fn func(Item) error) error {
	err := s.c.Scan(ctx, name, stream.Scan{}, func(m *stream.Stored) error {
		letter, err := decode(m)
		if err != nil {
			return err
		}
		if !letter.GetTime().AsTime().Before(cutoff) {
			return errEnough
		}
		return fn(Item{Sequence: m.Sequence, Letter: letter})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("read old dead letters: %w", err)
	}
	return nil
}

// MaxAge is how long dead letters are kept; 0 means for ever.
func (s *Stream) MaxAge() time.Duration { return s.maxAge }

// errEnough ends a scan whose page is full.
var errEnough = errors.New("enough")

// Remove removes a dead letter by its sequence, after it was redriven; ErrNotFound if it is gone.
func (s *Stream) Remove(ctx context.Context, sequence uint64) error {
	err := s.c.DeleteMessage(ctx, name, sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// Erase removes a dead letter for good, overwritten on disk; ErrNotFound if it is gone.
func (s *Stream) Erase(ctx context.Context, sequence uint64) error {
	err := s.c.Erase(ctx, name, sequence)
	if errors.Is(err, stream.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

func decode(m *stream.Stored) (*recordv1.DeadLetter, error) {
	letter := &recordv1.DeadLetter{}
	if err := proto.Unmarshal(m.Data, letter); err != nil {
		return nil, fmt.Errorf("decode dead letter %d: %w", m.Sequence, err)
	}
	return letter, nil
}
