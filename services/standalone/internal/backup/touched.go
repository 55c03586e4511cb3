package backup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

// In a bucket each write of a key removes one message and stores another, as what goes round in RETRIES does
// (see tail.go). What is written while it is copied is heard, and what those keys hold afterwards goes along
// with the copy. A write that was heard and is not stored yet then has not removed what was there before. One
// that was on its way before anybody heard, and was stored meanwhile, is found by its sequence, or another one
// that was heard has taken its place.

const bucketPrefix = "KV_"

func isBucket(name string) bool { return strings.HasPrefix(name, bucketPrefix) }

// touched are the subjects of the keys that are written while a bucket is copied.
type touched struct {
	name string
	sub  *nats.Subscription
	over chan struct{} // closed when the subscription has ended

	mu       sync.Mutex
	subjects map[string]struct{}
}

// value is what a key holds.
type value struct {
	Sequence uint64      `json:"sequence"`
	Subject  string      `json:"subject"`
	Header   nats.Header `json:"header,omitempty"`
	Data     []byte      `json:"data,omitempty"`
}

// beginTouched hears what is written to a bucket, until it is ended.
func beginTouched(nc *nats.Conn, name string) (*touched, error) {
	t := &touched{name: name, over: make(chan struct{}), subjects: map[string]struct{}{}}
	var err error
	t.sub, err = nc.Subscribe("$KV."+strings.TrimPrefix(name, bucketPrefix)+".>", func(m *nats.Msg) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.subjects[m.Subject] = struct{}{}
	})
	if err != nil {
		return nil, err
	}
	t.sub.SetClosedHandler(func(string) { close(t.over) })
	if err := errors.Join(t.sub.SetPendingLimits(-1, -1), nc.FlushTimeout(silence)); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *touched) close() error {
	err := t.sub.Drain()
	<-t.over
	if dropped, dropErr := t.sub.Dropped(); dropErr == nil && dropped > 0 {
		err = errors.Join(err, fmt.Errorf("%d writes to %s were lost on the way", dropped, t.name))
	}
	return err
}

// end writes what the keys hold that were written since a sequence into the bucket's tail, and returns how
// many they are.
func (t *touched) end(ctx context.Context, nc *nats.Conn, dir string, after uint64) (n int, err error) {
	c, err := stream.New(nc, stream.Default())
	if err != nil {
		return 0, errors.Join(err, t.close())
	}
	defer c.Close()
	err = errors.Join(t.stored(ctx, c, after), nc.FlushTimeout(silence), t.close())
	if err != nil || len(t.subjects) == 0 {
		return 0, err
	}
	f, err := create(filepath.Join(dir, t.name+tailSuffix))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeFile(f)) }()
	out := json.NewEncoder(f)
	for subject := range t.subjects {
		m, err := c.Last(ctx, t.name, subject)
		if errors.Is(err, stream.ErrNotFound) {
			continue // the write was refused, or its value has lived its time
		}
		if err != nil {
			return n, err
		}
		if err := out.Encode(value{Sequence: m.Sequence, Subject: m.Subject, Header: kept(m.Header), Data: m.Data}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// stored adds the keys of the messages that were stored after a sequence, up to what is stored now.
func (t *touched) stored(ctx context.Context, c *stream.Client, after uint64) error {
	s, err := c.JetStream().Stream(ctx, t.name)
	if err != nil {
		return err
	}
	for next, last := after+1, s.CachedInfo().State.LastSeq; next <= last; {
		m, err := s.GetMsg(ctx, next, jetstream.WithGetMsgSubject("$KV.>")) // a bucket's leader alone answers
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.subjects[m.Subject] = struct{}{}
		t.mu.Unlock()
		next = m.Sequence + 1
	}
	return nil
}

// kept is a message's header without what it was to be held against when it was stored.
func kept(header nats.Header) nats.Header {
	out := nats.Header{}
	for key, values := range header {
		if !strings.HasPrefix(key, "Nats-Expected-") && key != jetstream.MsgIDHeader {
			out[key] = values
		}
	}
	return out
}

// putTouched stores what the keys of a bucket's tail hold, where the copy has something else.
func putTouched(ctx context.Context, nc *nats.Conn, dir, name string) error {
	c, err := stream.New(nc, stream.Default())
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := os.Open(filepath.Join(dir, name+tailSuffix)) //nolint:gosec // the operator names the folder
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	in := json.NewDecoder(bufio.NewReader(f))
	for {
		var v value
		err := in.Decode(&v)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the tail cannot be read: %w", err)
		}
		standing, err := c.Last(ctx, name, v.Subject)
		switch {
		case err == nil && standing.Sequence == v.Sequence:
			continue
		case err != nil && !errors.Is(err, stream.ErrNotFound):
			return err
		}
		if _, err := c.JetStream().PublishMsg(ctx, &nats.Msg{Subject: v.Subject, Header: v.Header, Data: v.Data}); err != nil {
			return fmt.Errorf("store %s: %w", v.Subject, err)
		}
	}
}
