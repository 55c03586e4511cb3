package stream

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestWhatWaitsInMemoryIsKeptInProgress(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).NC(t)
	sub, err := nc.SubscribeSync("$JS.ACK.>")
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	p := newPuller(&Consumer{c: &Client{nc: nc}, stream: "S", durable: "d", batch: 4})
	now := time.Now()
	for i, age := range []time.Duration{AckWait, AckWait / 2, 0} {
		m, ok := newMsg(&Consumer{c: &Client{nc: nc}}, &nats.Msg{Reply: fmt.Sprintf("$JS.ACK.S.d.1.%d.1.1.0", i+1)})
		require.True(t, ok)
		m.touched = now.Add(-age)
		p.push(m)
	}
	p.keep(now)
	for i := range 2 {
		m, err := sub.NextMsg(5 * time.Second)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("$JS.ACK.S.d.1.%d.1.1.0", i+1), m.Subject)
		require.Equal(t, "+WPI", string(m.Data))
	}
	p.keep(now.Add(time.Second)) // they were just touched
	require.NoError(t, nc.Flush())
	_, err = sub.NextMsg(time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
}

func TestNewMsgReadsBothFormsOfTheAckSubject(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reply string
		ok    bool
	}{
		"the form without a domain":               {"$JS.ACK.S.worker.3.42.7.1700000000000000000.9", true},
		"the form with a domain":                  {"$JS.ACK.hub.hash.S.worker.3.42.7.1700000000000000000.9.x7", true},
		"the form with a domain and no last word": {"$JS.ACK._.hash.S.worker.3.42.7.1700000000000000000.9", true},
		"too few words":                           {"$JS.ACK.S.worker.3.42.7.9", false},
		"a word that is no number":                {"$JS.ACK.S.worker.3.x.7.1700000000000000000.9", false},
		"no reply":                                {"", false},
		"another subject":                         {"_INBOX.a.b.c.d.e.f.g.h", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, ok := newMsg(&Consumer{c: &Client{}}, &nats.Msg{Reply: tt.reply})
			require.Equal(t, tt.ok, ok)
			if !ok {
				return
			}
			require.Equal(t, uint64(3), m.Deliveries())
			require.Equal(t, uint64(42), m.Sequence())
			require.Equal(t, uint64(9), m.Pending())
			require.True(t, m.Time().Equal(time.Unix(1_700_000_000, 0)))
		})
	}
}

func TestTheRingIsAQueue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRing(1)
		var model []*Msg
		for range rapid.IntRange(0, 200).Draw(t, "operations") {
			if rapid.Bool().Draw(t, "push") {
				m := &Msg{}
				r.push(m)
				model = append(model, m)
			} else if got := r.pop(); len(model) == 0 {
				require.Nil(t, got)
			} else {
				require.Same(t, model[0], got)
				model = model[1:]
			}
			require.Equal(t, len(model), r.len())
		}
	})
}

func FuzzAcknowledgement(f *testing.F) {
	for _, s := range []string{
		`{"stream":"WORK", "seq":1}`, `{"stream":"WORK","domain":"hub", "seq":18446744073709551615}`,
		`{"stream":"WORK", "seq":7,"duplicate": true}`, `{"error":{"code":400,"err_code":10071},"stream":"WORK","seq":0}`,
		`{"stream":"", "seq":1}`, `{"stream":"W","seq":}`, ``, `{}`, `{"stream":"W", "seq":1,"val":"3"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &Publisher{streams: map[string]string{}}
		quick, ok := p.parseAck(data)
		if !ok {
			return
		}
		// What the quick way reads, the JSON parser reads alike.
		full, err := p.parse(&nats.Msg{Data: append(slices.Clip(data), ' ')})
		if err != nil {
			t.Skip("not JSON; a server does not send it")
		}
		require.Equal(t, full, quick)
	})
}
