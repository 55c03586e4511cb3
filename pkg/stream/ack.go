package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
)

// Ack says where a message was stored.
type Ack struct {
	// Sequence of the message in the stream.
	Sequence uint64
	// Duplicate says that a message with the same id was stored before, at Sequence.
	Duplicate bool
	// Stream is the stream's name.
	Stream string
}

// errTransient marks a refusal that says nothing about the message and passes by itself: no
// leader, an equal message in process, too many requests.
var errTransient = errors.New("refused for now")

func transient(err error) bool { return errors.Is(err, errTransient) }

// Error codes of the server that matter here (errors.json of nats-server).
const (
	codeAccountResources   = 10002 // JSAccountResourcesExceededErr
	codeClusterNotReady    = 10008 // JSClusterNotAvailErr
	codeInsufficient       = 10023 // JSInsufficientResourcesErr
	codeMemoryResources    = 10028 // JSMemoryResourcesExceededErr
	codeStorageResources   = 10047 // JSStorageResourcesExceededErr
	codeExceedsMaximum     = 10054 // JSStreamMessageExceedsMaximumErr
	codeWrongLastSequence  = 10071 // JSStreamWrongLastSequenceErrF
	codeStoreFailed        = 10077 // JSStreamStoreFailedF
	codeHeaderExceeds      = 10097 // JSStreamHeaderExceedsMaximumErr
	codeOffline            = 10118 // JSStreamOfflineErr
	codeDuplicateInProcess = 10158 // JSStreamDuplicateMessageConflict
	codeSequenceNotReady   = 10163 // JSStreamExpectedLastSeqPerSubjectNotReady
	codeSequenceInProcess  = 10164 // JSStreamWrongLastSequenceConstantErr
	codeTooManyRequests    = 10167 // JSStreamTooManyRequests
)

type ackError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// Error is the server's text with its code.
func (e *ackError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// classify gives the server's refusal one of this package's names.
func (e *ackError) classify() error {
	switch e.ErrCode {
	case codeWrongLastSequence:
		return fmt.Errorf("%w: %w", ErrWrongSequence, e)
	case codeStoreFailed:
		// The store's own text is all that tells a full stream from a message it cannot hold.
		if bytes.Contains([]byte(e.Description), []byte("too large")) {
			return fmt.Errorf("%w: %w", ErrTooLarge, e)
		}
		return fmt.Errorf("%w: %w", ErrFull, e)
	case codeAccountResources, codeInsufficient, codeMemoryResources, codeStorageResources:
		return fmt.Errorf("%w: %w", ErrFull, e)
	case codeExceedsMaximum, codeHeaderExceeds:
		return fmt.Errorf("%w: %w", ErrTooLarge, e)
	case codeClusterNotReady, codeOffline, codeDuplicateInProcess, codeSequenceNotReady, codeSequenceInProcess, codeTooManyRequests:
		return fmt.Errorf("%w: %w", errTransient, e)
	}
	return fmt.Errorf("%w: %w", ErrRefused, e)
}

var (
	ackStream    = []byte(`{"stream":"`)
	ackSequence  = []byte(`"seq":`)
	ackDuplicate = []byte(`,"duplicate": true}`)
)

// parse reads a reply to a publish.
func (p *Publisher) parse(m *nats.Msg) (Ack, error) {
	if ack, ok := p.parseAck(m.Data); ok {
		return ack, nil
	}
	if len(m.Data) == 0 {
		// 503: nobody listens on the subject, so no stream has it.
		return Ack{}, fmt.Errorf("%w: status %s", errTransient, m.Header.Get("Status"))
	}
	var reply struct {
		Error     *ackError `json:"error"`
		Stream    string    `json:"stream"`
		Sequence  uint64    `json:"seq"`
		Duplicate bool      `json:"duplicate"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		return Ack{}, fmt.Errorf("%w: malformed acknowledgement: %w", ErrUnknown, err)
	}
	if reply.Error != nil {
		return Ack{}, reply.Error.classify()
	}
	if reply.Stream == "" || reply.Sequence == 0 {
		return Ack{}, fmt.Errorf("%w: acknowledgement names no sequence", ErrUnknown)
	}
	return Ack{Sequence: reply.Sequence, Duplicate: reply.Duplicate, Stream: reply.Stream}, nil
}

// parseAck reads the two forms that a server sends for a stored message, without an allocation:
// {"stream":"S", "seq":1} and {"stream":"S", "seq":1,"duplicate": true}, with a domain between
// where there is one. Anything else is for a JSON parser.
func (p *Publisher) parseAck(data []byte) (Ack, bool) {
	rest, ok := bytes.CutPrefix(data, ackStream)
	if !ok {
		return Ack{}, false
	}
	end := bytes.IndexByte(rest, '"')
	if end <= 0 {
		return Ack{}, false
	}
	name := rest[:end]
	if bytes.ContainsFunc(name, func(r rune) bool { return r == '\\' || r >= utf8.RuneSelf }) {
		return Ack{}, false
	}
	at := bytes.Index(rest, ackSequence)
	if at < 0 {
		return Ack{}, false
	}
	rest = rest[at+len(ackSequence):]
	var seq uint64
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		seq = seq*10 + uint64(rest[digits]-'0')
		digits++
	}
	if digits == 0 || digits > 19 || seq == 0 {
		return Ack{}, false
	}
	ack := Ack{Sequence: seq, Stream: p.intern(name)}
	switch rest = rest[digits:]; {
	case len(rest) == 1 && rest[0] == '}':
		return ack, true
	case bytes.Equal(rest, ackDuplicate):
		ack.Duplicate = true
		return ack, true
	}
	return Ack{}, false
}

// intern shares the memory of the few stream names a publisher meets.
func (p *Publisher) intern(name []byte) string {
	if s, ok := p.streams[string(name)]; ok {
		return s
	}
	s := string(name)
	if len(p.streams) < 2*maxShardStreams {
		p.streams[s] = s
	}
	return s
}

// maxShardStreams is how many names intern expects at most of one kind.
const maxShardStreams = 256
