package retrystream

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/postrider/postrider/pkg/stream"
)

// The server keeps a stream in files, and begins another one whenever the last file holds no
// message any more. A due delivery that is acknowledged before anything else is stored empties it,
// so that a stream that drains at leisure would get a file for each release; they stay until the
// oldest record goes and are then removed at once, under the stream's lock, which makes everyone
// wait for seconds. One message that stays, the anchor, keeps the last file from being empty. It is
// written anew from time to time, because the last file becomes full.

// While records of a shard are released, an anchor follows the one before it after one of these.
const (
	anchorTime     = 250 * time.Millisecond
	anchorReleases = 64
)

func anchorSubject(shard int) string { return "anchors." + strconv.Itoa(shard) }

func isAnchor(subject string) bool { return strings.HasPrefix(subject, "anchors.") }

// anchor counts a release, and writes the shard's anchor if it is time. It does not wait for it, and one
// that is lost costs a few files.
func (s *Streams) anchor(sh *shard) {
	now := time.Now().UnixNano()
	last := sh.anchored.Load()
	if sh.unanchored.Add(1) < anchorReleases && now-last < anchorTime.Nanoseconds() {
		return
	}
	if !sh.anchored.CompareAndSwap(last, now) {
		return // another release does it
	}
	sh.unanchored.Store(0)
	s.background(func() {
		m := &nats.Msg{Subject: anchorSubject(sh.number), Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}}
		_ = sh.publisher.Publish(s.ctx, m, func(stream.Ack, error) {})
	})
}
