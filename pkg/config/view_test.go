package config

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/stream/bucket"
)

// model is a bucket with its history, and a server that lags behind its leader.
type model struct {
	log      []bucket.Entry // all that was ever written, by revision - 1
	follower int            // how much of the log the server has that is followed
}

func (m *model) write(key string, deleted bool) {
	m.log = append(m.log, bucket.Entry{Key: key, Revision: uint64(len(m.log) + 1), Deleted: deleted})
}

// next is the first message after a position that the followed server still has: the last of its
// key, markers among them, unless it is a marker whose time is over.
func (m *model) next(after uint64, expired map[uint64]bool) (bucket.Entry, bool) {
	last := make(map[string]uint64)
	for _, e := range m.log[:m.follower] {
		last[e.Key] = e.Revision
	}
	for _, e := range m.log[:m.follower] {
		if e.Revision > after && last[e.Key] == e.Revision && !expired[e.Revision] {
			return e, true
		}
	}
	return bucket.Entry{}, false
}

// at is the state of a key at a position: the revision that made it, and whether it is live.
func (m *model) at(key string, position uint64) (revision uint64, live bool) {
	for _, e := range m.log[:position] {
		if e.Key == key {
			revision, live = e.Revision, !e.Deleted
		}
	}
	return revision, live
}

// A view that is fresh knows, of every key, the state at the revision that the leader answered to
// the question, or a later one. That holds however far the followed server lags behind, whatever
// was overwritten before it came, and however often the bucket is read again.
func TestAFreshViewIsNeverOlderThanTheAnswer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{}
		told := make(map[string]uint64) // live keys, as the handlers were told
		v := newView(sink{
			put:  func(e bucket.Entry) error { told[e.Key] = e.Revision; return nil },
			gone: func(key string, _ uint64) error { delete(told, key); return nil },
		}, func(string, error) {})
		now, registered := time.Duration(1), time.Hour
		var asked []answer // under way
		answers := make(map[time.Duration]uint64)
		v.begin(now, false)

		knows := func(position uint64) {
			for _, k := range []string{"a", "b", "c"} {
				revision, live := m.at(k, position)
				got, shown := told[k]
				if !shown {
					_, stillLive := m.at(k, v.pos) // deleted at that position, or since
					require.False(t, live && stillLive, "%s is missing", k)
					continue
				}
				require.GreaterOrEqual(t, got, revision, "%s is older than it was at %d", k, position)
			}
		}
		check := func() {
			if v.seen == nil {
				knows(v.applied) // as is announced
			}
			if v.until != 0 {
				last, ok := answers[v.contact]
				require.True(t, ok)
				require.Equal(t, v.contact+Lease, v.until)
				knows(last)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				m.write(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"), rapid.Bool().Draw(t, "deleted"))
			},
			"replicate": func(t *rapid.T) {
				m.follower += rapid.IntRange(0, len(m.log)-m.follower).Draw(t, "messages")
			},
			"deliver": func(t *rapid.T) {
				for range rapid.IntRange(1, 3).Draw(t, "messages") {
					e, ok := m.next(v.pos, nil)
					if !ok {
						return
					}
					now++
					v.message(now, e)
					check()
				}
			},
			"ask": func(*rapid.T) {
				now++
				a := answer{began: now, until: registered, before: v.pos, last: uint64(len(m.log)), created: time.Unix(1, 0)}
				answers[a.began] = a.last
				asked = append(asked, a)
			},
			"answer": func(t *rapid.T) {
				if len(asked) == 0 {
					t.Skip("nothing was asked")
				}
				now++
				require.False(t, v.answer(asked[0]))
				asked = asked[1:]
				check()
			},
			"rescan": func(t *rapid.T) {
				now++
				v.begin(now, false)
				// The new consumer may read from a server that is behind.
				m.follower = rapid.IntRange(0, m.follower).Draw(t, "follower")
				check()
			},
			"": func(*rapid.T) {},
		})
		// Once everything has come, one question makes the view fresh and right.
		m.follower = len(m.log)
		for {
			e, ok := m.next(v.pos, nil)
			if !ok {
				break
			}
			now++
			v.message(now, e)
		}
		now++
		answers[now] = uint64(len(m.log))
		v.answer(answer{began: now, until: registered, before: v.pos, last: v.pos, created: time.Unix(1, 0)})
		require.Equal(t, now+Lease, v.until)
		for _, k := range []string{"a", "b", "c"} {
			revision, live := m.at(k, uint64(len(m.log)))
			got, shown := told[k]
			require.Equal(t, live, shown)
			if live {
				require.Equal(t, revision, got)
			}
		}
	})
}

// told records what a view tells.
type told struct{ calls []string }

func (c *told) sink() sink {
	return sink{
		put: func(e bucket.Entry) error {
			c.calls = append(c.calls, "put "+e.Key+" "+strconv.FormatUint(e.Revision, 10))
			return nil
		},
		gone: func(key string, rev uint64) error {
			c.calls = append(c.calls, "gone "+key+" "+strconv.FormatUint(rev, 10))
			return nil
		},
	}
}

func TestView(t *testing.T) {
	t.Parallel()
	created := time.Unix(1, 0)
	entry := func(key string, rev uint64) bucket.Entry { return bucket.Entry{Key: key, Revision: rev} }
	setup := func() (*view, *told) {
		c := &told{}
		v := newView(c.sink(), func(string, error) {})
		v.begin(1, false)
		return v, c
	}

	t.Run("an answer that was asked before a gap says nothing", func(t *testing.T) {
		t.Parallel()
		v, _ := setup()
		v.answer(answer{began: 2, until: time.Hour, last: 0, created: created})
		require.NotZero(t, v.until)
		until := v.until
		v.message(5, entry("a", 3))
		require.Equal(t, uint64(0), v.applied, "what stood at 1 and 2 is not known")
		v.answer(answer{began: 4, until: time.Hour, last: 3, created: created})
		require.Equal(t, until, v.until)
		require.Equal(t, uint64(0), v.applied)
		v.answer(answer{began: 6, until: time.Hour, last: 3, created: created})
		require.Equal(t, 6+Lease, v.until)
		require.Equal(t, uint64(3), v.applied)
		v.message(7, entry("b", 4))
		require.Equal(t, uint64(4), v.applied, "without a gap it stays whole")
	})
	t.Run("an answer whose messages come later counts from when it was asked", func(t *testing.T) {
		t.Parallel()
		v, _ := setup()
		v.answer(answer{began: 2, until: time.Hour, last: 2, created: created})
		require.Zero(t, v.until)
		v.message(3, entry("a", 1))
		require.Zero(t, v.until)
		v.message(4, entry("b", 2))
		require.Equal(t, 2+Lease, v.until)
	})
	t.Run("an answer that was overtaken counts", func(t *testing.T) {
		t.Parallel()
		v, _ := setup()
		v.message(2, entry("a", 1))
		v.message(3, entry("b", 2))
		require.False(t, v.answer(answer{began: 2, before: 0, until: time.Hour, last: 1, created: created}))
		require.Equal(t, 2+Lease, v.until)
	})
	t.Run("the registration ends the lease early", func(t *testing.T) {
		t.Parallel()
		v, _ := setup()
		v.answer(answer{began: 2, until: 10, last: 0, created: created})
		require.Equal(t, time.Duration(10), v.until)
	})
	t.Run("a scan finds deletions that were missed", func(t *testing.T) {
		t.Parallel()
		v, c := setup()
		v.message(2, entry("a", 1))
		v.message(3, entry("b", 2))
		v.answer(answer{began: 4, until: time.Hour, last: 2, created: created})
		v.begin(5, false)
		require.Zero(t, v.until, "not fresh while scanning")
		c.calls = nil
		v.message(6, entry("b", 2))
		v.message(7, entry("c", 9))
		require.Equal(t, []string{"put c 9"}, c.calls, "what is known is not told again")
		v.answer(answer{began: 8, until: time.Hour, last: 9, created: created})
		require.Equal(t, []string{"put c 9", "gone a 9"}, c.calls)
		require.Equal(t, uint64(9), v.applied)
	})
	t.Run("another bucket is told in full", func(t *testing.T) {
		t.Parallel()
		v, c := setup()
		v.message(2, entry("a", 1))
		v.message(2, entry("b", 2))
		v.answer(answer{began: 4, until: time.Hour, last: 2, created: created})
		require.True(t, v.answer(answer{began: 5, before: 2, until: time.Hour, last: 7, created: created.Add(1)}))
		v.begin(6, true)
		require.Zero(t, v.applied)
		c.calls = nil
		v.message(7, entry("a", 1))
		v.answer(answer{began: 8, until: time.Hour, last: 1, created: created.Add(1)})
		require.Equal(t, []string{"put a 1", "gone b 1"}, c.calls)
	})
	t.Run("a bucket that lost its end is another one", func(t *testing.T) {
		t.Parallel()
		v, _ := setup()
		v.message(2, entry("a", 1))
		v.message(2, entry("b", 2))
		lost := answer{began: 4, before: 2, until: time.Hour, last: 1, created: created}
		require.False(t, v.answer(lost), "a leader that was just elected may lag")
		require.False(t, v.answer(lost))
		require.True(t, v.answer(lost))
	})
}
