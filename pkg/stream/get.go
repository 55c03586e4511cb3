package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stored is a message read from a stream by its place.
type Stored struct {
	// Subject of the message.
	Subject string
	// Sequence in the stream.
	Sequence uint64
	// Header of the message; a direct read adds the server's own Nats- fields.
	Header nats.Header
	// Data is the body.
	Data []byte
	// Time is when the leader stored it. Only Last says it; see StoredAt.
	Time time.Time
}

// StoredAt is when the message was stored, by the server's own clock; zero if the answer did not
// say it.
func (s *Stored) StoredAt() time.Time {
	if !s.Time.IsZero() {
		return s.Time
	}
	at, err := time.Parse(time.RFC3339Nano, s.Header.Get(jetstream.TimeStampHeaer))
	if err != nil {
		return time.Time{}
	}
	return at
}

// request is the body of a read.
type request struct {
	Seq       uint64     `json:"seq,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	// NoHeaders asks for the body alone.
	NoHeaders bool `json:"no_hdr,omitempty"`
	// LastForAll asks for the last message of each subject that matches.
	LastForAll []string `json:"multi_last,omitempty"`
}

// codeNoMessage is the leader's word for a message that is not there (JSNoMessageFoundErr).
const codeNoMessage = 10037

// readTimeout bounds one try of a read.
const readTimeout = 2 * time.Second

// Get reads a message by its sequence. Any replica may answer; one that does not have it may only
// be behind, so the leader is asked before ErrNotFound is returned.
func (c *Client) Get(ctx context.Context, stream string, sequence uint64) (*Stored, error) {
	return c.get(ctx, stream, request{Seq: sequence})
}

// Next reads the first message at or after a sequence whose subject matches.
func (c *Client) Next(ctx context.Context, stream, filter string, sequence uint64) (*Stored, error) {
	return c.get(ctx, stream, request{Seq: max(sequence, 1), NextFor: filter})
}

// Last reads the last message of a subject from the stream's leader.
func (c *Client) Last(ctx context.Context, stream, subject string) (*Stored, error) {
	m, err := c.fromLeader(ctx, stream, request{LastFor: subject})
	if err != nil {
		return nil, fmt.Errorf("read last of %s: %w", subject, err)
	}
	return m, nil
}

// LastMatching reads the last message of the one subject that matches a pattern; of the last
// messages of several subjects, the latest.
func (c *Client) LastMatching(ctx context.Context, stream, pattern string) (*Stored, error) {
	found, err := c.lastFromAny(ctx, stream, pattern)
	for errors.Is(err, ErrNotFound) && c.cfg.Replicas > 1 {
		// The replica may be behind. The leader knows no such read, so it is asked for one message
		// after another, of which there are few.
		next := uint64(1)
		if found != nil {
			next = found.Sequence + 1
		}
		m, behind := c.fromLeader(ctx, stream, request{Seq: next, NextFor: pattern})
		if errors.Is(behind, ErrNotFound) && found != nil {
			err = nil
			break
		}
		if behind != nil {
			err = behind
			break
		}
		found = m
	}
	if err != nil {
		return nil, fmt.Errorf("read last of %s: %w", pattern, err)
	}
	return found, nil
}

// lastFromAny reads the last message of every subject that matches from any replica.
func (c *Client) lastFromAny(ctx context.Context, stream, pattern string) (*Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	inbox := c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	body, err := json.Marshal(request{LastForAll: []string{pattern}})
	if err != nil {
		return nil, err
	}
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, body); err != nil {
		return nil, err
	}
	var found *Stored
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		if m.Header.Get("Status") == "204" && len(m.Data) == 0 { // end of batch
			if found == nil {
				return nil, ErrNotFound
			}
			return found, nil
		}
		s, err := directMsg(m)
		if err != nil {
			return nil, err
		}
		if found == nil || s.Sequence > found.Sequence {
			found = s
		}
	}
}

func (c *Client) get(ctx context.Context, stream string, req request) (*Stored, error) {
	m, err := c.fromAny(ctx, stream, req)
	if errors.Is(err, ErrNotFound) && c.cfg.Replicas > 1 {
		m, err = c.fromLeader(ctx, stream, req)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", stream, req.Seq, err)
	}
	return m, nil
}

// fromAny reads with a direct get, which every replica answers.
func (c *Client) fromAny(ctx context.Context, stream string, req request) (*Stored, error) {
	m, err := c.ask(ctx, "$JS.API.DIRECT.GET."+stream, req)
	if err != nil {
		return nil, err
	}
	return directMsg(m)
}

// fromLeader reads with the API of the stream's leader, which has everything that was
// acknowledged.
func (c *Client) fromLeader(ctx context.Context, stream string, req request) (*Stored, error) {
	m, err := c.ask(ctx, "$JS.API.STREAM.MSG.GET."+stream, req)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *ackError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return nil, fmt.Errorf("malformed answer: %w", err)
	}
	switch {
	case answer.Error != nil && answer.Error.ErrCode == codeNoMessage:
		return nil, ErrNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, errors.New("malformed answer: no message")
	}
	s := &Stored{Subject: answer.Message.Subject, Sequence: answer.Message.Sequence, Data: answer.Message.Data, Time: answer.Message.Time}
	if len(answer.Message.Header) > 0 {
		if s.Header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, fmt.Errorf("malformed header of sequence %d: %w", s.Sequence, err)
		}
	}
	return s, nil
}

// ask sends a read and waits; a lost answer is asked for once more.
func (c *Client) ask(ctx context.Context, subject string, req request) (*nats.Msg, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		m, err := c.askOnce(ctx, subject, body)
		if err == nil || try > 0 || ctx.Err() != nil || errors.Is(err, nats.ErrConnectionClosed) {
			return m, err
		}
		if errors.Is(err, nats.ErrNoResponders) && !wait(ctx, maxTick) {
			return nil, err
		}
	}
}

func (c *Client) askOnce(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return c.nc.RequestWithContext(ctx, subject, body)
}

// directMsg reads the answer to a direct get.
func directMsg(m *nats.Msg) (*Stored, error) {
	if len(m.Data) == 0 {
		switch status := m.Header.Get("Status"); status {
		case "":
		case "404":
			return nil, ErrNotFound
		default:
			return nil, fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
	}
	seq, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return nil, errors.New("direct get: the answer names no sequence")
	}
	return &Stored{Subject: m.Header.Get(jetstream.SubjectHeader), Sequence: seq, Header: m.Header, Data: m.Data}, nil
}

// DeleteMessage removes a message by its sequence without overwriting it on disk. ErrNotFound if
// it is not there.
func (c *Client) DeleteMessage(ctx context.Context, stream string, sequence uint64) error {
	return c.remove(ctx, stream, sequence, true)
}

// Erase removes a message by its sequence and overwrites it on disk. ErrNotFound if it is not there.
func (c *Client) Erase(ctx context.Context, stream string, sequence uint64) error {
	return c.remove(ctx, stream, sequence, false)
}

func (c *Client) remove(ctx context.Context, stream string, sequence uint64, noErase bool) error {
	err := c.command(ctx, "$JS.API.STREAM.MSG.DELETE."+stream, map[string]any{"seq": sequence, "no_erase": noErase}, nil)
	if _, refused := errors.AsType[*ackError](err); refused {
		// The server says in its text alone that the message is not there, each store its own way.
		if _, missing := c.fromLeader(ctx, stream, request{Seq: sequence}); errors.Is(missing, ErrNotFound) {
			return fmt.Errorf("delete sequence %d of %s: %w", sequence, stream, ErrNotFound)
		}
	}
	return err
}

// Purge removes the messages whose subject matches and whose sequence is below the given one, and
// says how many. An empty filter matches all, a sequence of 0 is no bound.
func (c *Client) Purge(ctx context.Context, stream, filter string, below uint64) (int64, error) {
	req := struct {
		Filter   string `json:"filter,omitempty"`
		Sequence uint64 `json:"seq,omitempty"`
	}{filter, below}
	var purged struct {
		Purged int64 `json:"purged"`
	}
	err := c.command(ctx, "$JS.API.STREAM.PURGE."+stream, req, &purged)
	return purged.Purged, err
}

// commandTimeout bounds one command; a large purge takes a while.
const commandTimeout = 30 * time.Second

// command asks the API to change a stream.
func (c *Client) command(ctx context.Context, subject string, req, into any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	var answer struct {
		Error *ackError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("%s: malformed answer: %w", subject, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %w", subject, answer.Error)
	}
	if into != nil {
		return json.Unmarshal(m.Data, into)
	}
	return nil
}
