package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Of the load on one leader.
const (
	leaderMessage = 1355 // bytes: what an event with 1 KiB of data takes
	leaderWindow  = 4096 // published and not yet acknowledged
)

// leader publishes to one stream like EVENTS, with a Msg-Id each, as fast as acknowledgements come, with so
// many NATS servers and replicas. No service works meanwhile, so that what it costs is the leader's, and that
// of those who follow it.
func (b *bench) leader(ctx context.Context, name string, nodes int) (rows []Row, err error) {
	err = b.different(func(o *Options) { o.nodes = nodes }).system(ctx, name, func(s *system) error {
		nc, err := nats.Connect(s.nats)
		if err != nil {
			return fmt.Errorf("publish to one leader: %w", err)
		}
		defer nc.Close()
		js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(leaderWindow))
		if err != nil {
			return err
		}
		if _, err := js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "SCALE", Subjects: []string{"scale.>"}, Storage: jetstream.FileStorage, Replicas: nodes,
			Duplicates: duplicateWindow, Discard: jetstream.DiscardNew,
		}); err != nil {
			return fmt.Errorf("publish to one leader: %w", err)
		}
		body := make([]byte, leaderMessage)
		before, err := s.procs.awaitQuiet(ctx)
		if err != nil {
			return err
		}
		began, n := time.Now(), 0
		for ; time.Since(began) < b.opts.Load; n++ {
			m := &nats.Msg{Subject: "scale.acc_" + strconv.Itoa(n%64), Data: body, Header: nats.Header{jetstream.MsgIDHeader: {strconv.Itoa(n)}}}
			if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(quietLimit)); err != nil {
				return fmt.Errorf("publish to one leader: %w", err)
			}
		}
		select {
		case <-js.PublishAsyncComplete():
		case <-time.After(quietLimit):
			return errors.New("publish to one leader: acknowledgements are missing")
		}
		took := time.Since(began)
		after, err := s.procs.cpu()
		if err != nil {
			return err
		}
		rows = append(rows, figure("", "published and acknowledged", unitRate, float64(n)/took.Seconds()))
		all := 0.0
		for server, d := range spent(before, after) {
			if strings.HasPrefix(server, "nats") {
				all += d.Seconds()
				rows = append(rows, figure("", "CPU for 1000 messages, "+server, unitSecond, 1000*d.Seconds()/float64(n)))
			}
		}
		rows = append(rows, figure("", "CPU for 1000 messages, all servers", unitSecond, 1000*all/float64(n)))
		return nil
	})
	return rows, err
}
