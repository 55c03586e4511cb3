package verify_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/httpsig"
	"github.com/postrider/postrider/pkg/signature"
	"github.com/postrider/postrider/pkg/verify"
)

func TestAWindowRefusesReplaysAndTakesRetries(t *testing.T) {
	t.Parallel()
	for name, f := range forms(t) {
		if !f.time {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := verify.NewWindow(10)
			v, err := f.verify(verify.Options{Now: clock, Window: w})
			require.NoError(t, err)
			take := func(body string, at time.Time) error {
				r := request(t, inbox, body)
				f.sign(t, r, body, at)
				_, err := v.Verify(r, []byte(body))
				return err
			}
			require.NoError(t, take("{}", sent))
			require.ErrorIs(t, take("{}", sent), verify.ErrReplay)
			require.NoError(t, take("{}", sent.Add(10*time.Second)), "the next attempt has the same id and a later time")
			require.Equal(t, 2, w.Len())
			r := request(t, inbox, "{}")
			f.sign(t, r, "{}", sent)
			_, err = v.Verify(r, []byte("x"))
			require.ErrorIs(t, err, verify.ErrNoMatch)
			require.Equal(t, 2, w.Len(), "what is not genuine takes no room")
		})
	}
}

// One of several signatures can be cut out of a message, which makes it no other message.
func TestAReplayWithOtherSignaturesIsAReplay(t *testing.T) {
	t.Parallel()
	t.Run("stripe", func(t *testing.T) {
		t.Parallel()
		v, err := verify.Scheme("stripe", []string{"new", "old"}, verify.Options{Now: clock, Window: verify.NewWindow(10)})
		require.NoError(t, err)
		s, ok := stripe()
		require.True(t, ok)
		f := schemeForm("stripe", s, []string{"new", "old"}, form{})
		r := request(t, inbox, "{}")
		f.sign(t, r, "{}", sent)
		_, err = v.Verify(r, []byte("{}"))
		require.NoError(t, err)
		value := r.Header.Get("Stripe-Signature")
		r.Header.Set("Stripe-Signature", value[:len("t=1674087231,")]+value[len("t=1674087231,v1=,")+64:])
		_, err = v.Verify(r, []byte("{}"))
		require.ErrorIs(t, err, verify.ErrReplay)
	})
	t.Run("message signatures", func(t *testing.T) {
		t.Parallel()
		a, b := newKey(t, httpsig.Ed25519), newKey(t, httpsig.Ed25519)
		known, err := verify.PublicKeys(a.public, b.public)
		require.NoError(t, err)
		v, err := verify.MessageSignatures(known, verify.TargetURI, verify.Options{Now: clock, Window: verify.NewWindow(10)})
		require.NoError(t, err)
		p := params(verify.TargetURI, sent)
		p.Components = []string{"@method", "@target-uri"}
		for i, signers := range [][]*httpsig.Signer{{a.signer, b.signer}, {b.signer}} {
			r := request(t, inbox, "")
			signMessage(t, r, "", p, signers...)
			r.Header.Set("Content-Digest", fmt.Sprintf("x=%d", i))
			_, err = v.Verify(r, nil)
			require.ErrorIs(t, err, []error{nil, verify.ErrReplay}[i])
		}
	})
}

// A model that forgets nothing says what was taken; the window may refuse more, and never takes
// anything twice, nor outgrows its size.
func TestAWindowNeverTakesTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 5).Draw(t, "size")
		tolerance := time.Duration(rapid.IntRange(1, 20).Draw(t, "tolerance")) * time.Second
		w := verify.NewWindow(size)
		taken := map[string]bool{}
		now := sent
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-2, 5).Draw(t, "passes")) * time.Second)
			at := now.Add(time.Duration(rapid.IntRange(-20, 20).Draw(t, "at")) * time.Second)
			id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
			if d := now.Sub(at); d > tolerance || d < -tolerance {
				continue // Verify refuses it before
			}
			key := id + stamp(at)
			err := verify.Take(w, id, at, now, tolerance)
			if taken[key] {
				require.Error(t, err)
			}
			if err == nil {
				taken[key] = true
			}
			require.LessOrEqual(t, w.Len(), size)
		}
	})
}

func TestAWindowThatIsLargeEnoughRefusesNothingNew(t *testing.T) {
	t.Parallel()
	w := verify.NewWindow(2_000)
	now := sent
	for i := range 10_000 {
		now = now.Add(time.Second)
		at := now.Add(time.Duration(i%7-3) * time.Second)
		require.NoError(t, verify.Take(w, strconv.Itoa(i), at, now, verify.DefaultTolerance))
	}
	require.Less(t, w.Len(), 700)
}

func TestAWindowIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	w := verify.NewWindow(1000)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				if verify.Take(w, strconv.Itoa(i), sent, sent, verify.DefaultTolerance) == nil {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(200), taken.Load())
}

func stripe() (*signature.Scheme, bool) { return signature.LookupScheme("stripe") }
