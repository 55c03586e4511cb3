package admission

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/telemetry"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/test/fixture/logtest"

	"github.com/postrider/postrider/services/ingest/internal/dedup"
	"github.com/postrider/postrider/services/ingest/internal/fair"
)

const (
	soon = 30 * time.Second
	tick = time.Millisecond

	acc = postrider.AccountID("acc_01J00000000000000000000000")
	oth = postrider.AccountID("acc_01J00000000000000000000001")
)

// bundle is a record, an index over it and a directory, which several admissions may share as
// replicas do.
type bundle struct {
	record *record
	index  dedup.Index
	dir    *Directory
	gate   *fair.Gate
	cfg    Config
}

// patient is a configuration whose time limits no test reaches unless it means to.
func patient() Config {
	cfg := Default()
	cfg.Takeover, cfg.PublishBudget, cfg.MsgIDWindow = time.Hour, 20*time.Second, 2*time.Hour
	cfg.PollMin, cfg.PollMax = time.Millisecond, 4*time.Millisecond
	return cfg
}

// silence is how long the holder of a key may be silent in tests of takeovers. Only the index goes
// by it: what admission itself is given to do stays without hurry.
const silence = 30 * time.Millisecond

func setup(t testing.TB, cfg Config) *bundle {
	t.Helper()
	return setupTakeover(t, cfg, cfg.Takeover)
}

// setupHasty gives keys of silent holders to others quickly.
func setupHasty(t testing.TB, cfg Config) *bundle {
	t.Helper()
	return setupTakeover(t, cfg, silence)
}

func setupTakeover(t testing.TB, cfg Config, takeover time.Duration) *bundle {
	t.Helper()
	b := &bundle{record: newRecord(t), cfg: cfg}
	b.dir = NewDirectory(24*time.Hour, func() bool { return true })
	b.gate = fair.New(fair.Config{Backlog: 1000}, b.dir.Several, time.Now())
	for _, id := range []postrider.AccountID{acc, oth} {
		b.dir.PutAccount(&recordv1.Account{Account: &postriderv1.Account{Id: string(id)}})
	}
	memory, err := dedup.NewMemory(dedup.MemoryConfig{
		Config: dedup.Config{Takeover: takeover, Longest: 24 * time.Hour, Window: b.dir.Window}, MaxKeys: 1 << 20,
	}, b.record, logtest.New(t))
	require.NoError(t, err)
	require.NoError(t, memory.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, memory.Stop(context.Background())) })
	require.Eventually(t, func() bool { _, yes := memory.Degraded(); return !yes }, soon, tick)
	b.index = memory
	return b
}

// replica is an admission that has not started.
func (b *bundle) replica(t testing.TB) *Admission {
	t.Helper()
	a, err := New(b.cfg, Deps{
		Events: b.record, Index: b.index, Directory: b.dir, Gate: b.gate, Logger: logtest.New(t), Telemetry: telemetry.Noop(),
	})
	require.NoError(t, err)
	return a
}

// start starts an admission until the test ends; nothing may be under way then.
func (b *bundle) start(t testing.TB) *Admission {
	t.Helper()
	a := b.replica(t)
	require.NoError(t, a.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		require.NoError(t, a.Stop(ctx))
	})
	return a
}

// one is a valid request; change alters it.
func one(change ...func(*Request)) *Request {
	r := &Request{
		Account: acc, FieldPrefix: "event.",
		Event: &postriderv1.EventInput{Type: "release.live", Data: []byte(`{"n":1}`)},
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func withKey(key string) func(*Request)   { return func(r *Request) { r.IdempotencyKey = key } }
func withData(data string) func(*Request) { return func(r *Request) { r.Event.Data = []byte(data) } }

func withEvent(change func(*postriderv1.EventInput)) func(*Request) {
	return func(r *Request) { change(r.Event) }
}

func withID(source, id string) func(*Request) {
	return withEvent(func(ev *postriderv1.EventInput) { ev.Source, ev.Id = source, id })
}

// accept must succeed.
func accept(t testing.TB, a *Admission, r *Request) *postriderv1.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	receipt, err := a.Accept(ctx, r)
	require.NoError(t, err)
	return receipt
}

// refused must fail with the kind and reason.
func refused(t testing.TB, a *Admission, r *Request, kind fault.Kind, reason string) fault.Error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	receipt, err := a.Accept(ctx, r)
	require.Nil(t, receipt)
	return isFault(t, err, kind, reason)
}

func isFault(t testing.TB, err error, kind fault.Kind, reason string) fault.Error {
	t.Helper()
	e, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, kind.String(), e.Kind.String())
	require.Equal(t, reason, e.Reason)
	return *e
}

func accountWith(policy postriderv1.UnknownTypePolicy, window time.Duration) *recordv1.Account {
	a := &postriderv1.Account{Id: string(acc), UnknownTypePolicy: policy}
	if window > 0 {
		a.DedupWindow = durationpb.New(window)
	}
	return &recordv1.Account{Account: a}
}
