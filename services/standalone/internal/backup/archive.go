package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
)

// The server's snapshot and restore of one stream (ADR-8 of NATS has the streams of buckets). What
// describes a stream is passed on as the server wrote it: a library that reads it into types of its
// own would drop what a later server adds.

const (
	chunk = 128 << 10
	// silence is how long the server may be silent: to begin, between two chunks, and, at the end of
	// a restore, until it has built the stream's index.
	silence  = time.Minute
	building = time.Hour
)

// about describes a stream in a backup, in the words of the server.
type about struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// state is what we read of a stream's state.
type state struct {
	Messages     uint64 `json:"messages"`
	LastSequence uint64 `json:"last_seq"`
}

// refusal is the server's error, if it has one.
type refusal struct {
	Error *struct {
		Code        int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

func (r refusal) err() error {
	if r.Error == nil {
		return nil
	}
	return fmt.Errorf("%s (%d)", r.Error.Description, r.Error.Code)
}

// call asks the server's API.
func call(ctx context.Context, nc *nats.Conn, subject string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m, err := ask(ctx, nc, subject, body, silence)
	if err != nil {
		return err
	}
	return errors.Join(refused(m.Data), json.Unmarshal(m.Data, answer))
}

func ask(ctx context.Context, nc *nats.Conn, subject string, body []byte, within time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return nc.RequestWithContext(ctx, subject, body)
}

func refused(answer []byte) error {
	var r refusal
	if err := json.Unmarshal(answer, &r); err != nil {
		return err
	}
	return r.err()
}

// streamNames lists every stream.
func streamNames(ctx context.Context, nc *nats.Conn) ([]string, error) {
	var names []string
	for {
		var page struct {
			Total   int      `json:"total"`
			Streams []string `json:"streams"`
		}
		if err := call(ctx, nc, "$JS.API.STREAM.NAMES", map[string]int{"offset": len(names)}, &page); err != nil {
			return nil, fmt.Errorf("list streams: %w", err)
		}
		names = append(names, page.Streams...)
		if len(names) >= page.Total || len(page.Streams) == 0 {
			return names, nil
		}
	}
}

// snapshot writes a stream's archive, whose messages the server has checked, to data.
func snapshot(ctx context.Context, nc *nats.Conn, stream string, consumers bool, data io.Writer) (about, error) {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return about{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return about{}, err
	}
	request := map[string]any{"deliver_subject": sub.Subject, "no_consumers": !consumers, "jsck": true, "chunk_size": chunk}
	var a about
	if err := call(ctx, nc, "$JS.API.STREAM.SNAPSHOT."+stream, request, &a); err != nil {
		return about{}, err
	}
	for {
		m, err := next(ctx, sub)
		if err != nil {
			return about{}, err
		}
		if len(m.Data) == 0 {
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return about{}, fmt.Errorf("the server broke off: %s %s", status, m.Header.Get("Description"))
			}
			return a, nil
		}
		// The server sends no more than a few chunks ahead of these.
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return about{}, err
			}
		}
		if _, err := data.Write(m.Data); err != nil {
			return about{}, err
		}
	}
}

func next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	return sub.NextMsgWithContext(ctx)
}

// restore makes a stream of its archive and returns what it holds.
func restore(ctx context.Context, nc *nats.Conn, stream string, a about, data io.Reader) (state, error) {
	var begun struct {
		DeliverSubject string `json:"deliver_subject"`
	}
	if err := call(ctx, nc, "$JS.API.STREAM.RESTORE."+stream, a, &begun); err != nil {
		return state{}, err
	}
	part := make([]byte, chunk)
	for {
		n, err := io.ReadFull(data, part)
		if n > 0 {
			m, err := ask(ctx, nc, begun.DeliverSubject, part[:n], silence)
			if err != nil {
				return state{}, err
			}
			if bytes.HasPrefix(m.Data, []byte("-ERR")) {
				return state{}, fmt.Errorf("the server broke off: %s", m.Data)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return state{}, err
		}
	}
	m, err := ask(ctx, nc, begun.DeliverSubject, nil, building)
	if err != nil {
		return state{}, err
	}
	var made struct {
		State state `json:"state"`
	}
	return made.State, errors.Join(refused(m.Data), json.Unmarshal(m.Data, &made))
}
