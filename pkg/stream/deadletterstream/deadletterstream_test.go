package deadletterstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/stream"
	"github.com/postrider/postrider/pkg/stream/deadletterstream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *deadletterstream.Stream {
	t.Helper()
	c, err := stream.New(natstest.Start(t).Connect(t), stream.Default())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s, err := deadletterstream.Ensure(t.Context(), c, deadletterstream.Default())
	require.NoError(t, err)
	return s
}

func bury(t *testing.T, s *deadletterstream.Stream, account, webhook, delivery string, attempts int32) {
	t.Helper()
	done := make(chan error, 1)
	require.NoError(t, s.Publish(t.Context(), &recordv1.DeadLetter{
		Cause: "exhausted",
		Delivery: &recordv1.Delivery{
			Id: delivery, AccountId: account, WebhookId: webhook, Data: []byte("data of " + delivery),
			Progress: &recordv1.Progress{Attempts: attempts},
		},
	}, func(err error) { done <- err }))
	require.NoError(t, <-done)
}

func TestALetterIsFoundByItsDeliveryAlone(t *testing.T) {
	t.Parallel()
	s := open(t)
	bury(t, s, "acc_1", "wh_1", "dlv_1", 5)
	bury(t, s, "acc_1", "wh_1", "dlv_1", 5) // the same death again
	bury(t, s, "acc_1", "wh_1", "dlv_2", 5)
	letter, sequence, err := s.Get(t.Context(), "acc_1", "dlv_1")
	require.NoError(t, err)
	require.EqualValues(t, 1, sequence)
	require.Equal(t, "data of dlv_1", string(letter.GetDelivery().GetData()))

	_, _, err = s.Get(t.Context(), "acc_2", "dlv_1")
	require.ErrorIs(t, err, deadletterstream.ErrNotFound, "another account's")
	_, _, err = s.Get(t.Context(), "acc_1", "dlv_3")
	require.ErrorIs(t, err, deadletterstream.ErrNotFound)

	bury(t, s, "acc_1", "wh_1", "dlv_1", 10) // redriven, and dead again
	letter, _, err = s.Get(t.Context(), "acc_1", "dlv_1")
	require.NoError(t, err)
	require.EqualValues(t, 10, letter.GetDelivery().GetProgress().GetAttempts())
}

func TestADeliveryMayDieTwiceOfAsManyAttempts(t *testing.T) {
	t.Parallel()
	s := open(t)
	die := func(attempt string, at time.Time) {
		done := make(chan error, 1)
		letter := &recordv1.DeadLetter{Delivery: &recordv1.Delivery{Id: "dlv_1", AccountId: "acc_1", WebhookId: "wh_1"}, Time: timestamppb.New(at)}
		if attempt != "" {
			letter.LastAttempt = &recordv1.Attempted{AttemptId: attempt}
		}
		require.NoError(t, s.Publish(t.Context(), letter, func(err error) { done <- err }))
		require.NoError(t, <-done)
	}
	now := time.Now()
	die("att_1", now)
	die("att_1", now.Add(time.Second)) // a repeat of the first
	die("att_2", now)
	die("", now)
	die("", now.Add(time.Second))
	items, err := s.List(t.Context(), "acc_1", "wh_1", 0, 10)
	require.NoError(t, err)
	require.Len(t, items, 4)
	require.ErrorIs(t, s.Publish(t.Context(), &recordv1.DeadLetter{Delivery: &recordv1.Delivery{Id: "*"}}, nil), stream.ErrRefused)
	_, _, err = s.Get(t.Context(), "acc_1", ">")
	require.ErrorIs(t, err, deadletterstream.ErrNotFound)
}

func TestLettersAreListedByAccountAndWebhookInPages(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i, where := range []struct{ account, webhook string }{
		{"acc_1", "wh_1"}, {"acc_2", "wh_9"}, {"acc_1", "wh_2"}, {"acc_1", "wh_1"}, {"acc_1", "wh_1"},
	} {
		bury(t, s, where.account, where.webhook, "dlv_"+string(rune('a'+i)), 1)
	}
	list := func(account postrider.AccountID, webhook postrider.WebhookID, after uint64, limit int) (sequences []uint64) {
		items, err := s.List(t.Context(), account, webhook, after, limit)
		require.NoError(t, err)
		for _, item := range items {
			require.Equal(t, string(account), item.Letter.GetDelivery().GetAccountId())
			sequences = append(sequences, item.Sequence)
		}
		return sequences
	}
	require.Equal(t, []uint64{1, 3, 4, 5}, list("acc_1", "", 0, 10))
	require.Equal(t, []uint64{1, 4}, list("acc_1", "wh_1", 0, 2))
	require.Equal(t, []uint64{5}, list("acc_1", "wh_1", 4, 2))
	require.Empty(t, list("acc_3", "", 0, 10))

	require.NoError(t, s.Remove(t.Context(), 4))
	require.ErrorIs(t, s.Remove(t.Context(), 4), deadletterstream.ErrNotFound)
	require.Equal(t, []uint64{1, 5}, list("acc_1", "wh_1", 0, 10))
}

func TestOldLettersOfAllAccountsComeOldestFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	now := time.Now()
	for i, age := range []time.Duration{5 * time.Hour, 4 * time.Hour, 2 * time.Hour, time.Hour} {
		done := make(chan error, 1)
		require.NoError(t, s.Publish(t.Context(), &recordv1.DeadLetter{
			Time:     timestamppb.New(now.Add(-age)),
			Delivery: &recordv1.Delivery{Id: "dlv_" + string(rune('a'+i)), AccountId: "acc_" + string(rune('a'+i)), WebhookId: "wh_1"},
		}, func(err error) { done <- err }))
		require.NoError(t, <-done)
	}
	var got []uint64
	require.NoError(t, s.DiedBefore(t.Context(), now.Add(-3*time.Hour), func(i deadletterstream.Item) error {
		got = append(got, i.Sequence)
		return nil
	}))
	require.Equal(t, []uint64{1, 2}, got)
	require.Equal(t, deadletterstream.Default().MaxAge, s.MaxAge())
}
