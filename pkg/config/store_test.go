package config_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestStoreWebhooks(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	ctx := t.Context()

	_, _, err := s.GetWebhook(ctx, "acc_1", "wh_1")
	require.ErrorIs(t, err, config.ErrNotFound)
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.NotFound, kind)

	created, err := s.CreateWebhook(ctx, webhook("acc_1", "wh_1", "first"))
	require.NoError(t, err)
	_, err = s.CreateWebhook(ctx, webhook("acc_1", "wh_1", "again"))
	require.ErrorIs(t, err, config.ErrExists)

	w, rev, err := s.GetWebhook(ctx, "acc_1", "wh_1")
	require.NoError(t, err)
	require.Equal(t, created, rev)
	require.Equal(t, "first", w.GetWebhook().GetDisplayName())

	w.Webhook.DisplayName = "second"
	updated, err := s.UpdateWebhook(ctx, w, rev)
	require.NoError(t, err)
	require.Greater(t, updated, rev)
	_, err = s.UpdateWebhook(ctx, w, rev)
	require.ErrorIs(t, err, config.ErrConflict)
	kind, _ = fault.KindOf(err)
	require.Equal(t, fault.Aborted, kind)
	_, err = s.UpdateWebhook(ctx, w, 0)
	require.ErrorIs(t, err, config.ErrConflict, "0 is no revision")
	_, err = s.UpdateWebhook(ctx, webhook("acc_1", "wh_2", ""), 1)
	require.ErrorIs(t, err, config.ErrNotFound)

	_, err = s.DeleteWebhook(ctx, "acc_1", "wh_1", rev)
	require.ErrorIs(t, err, config.ErrConflict)
	deleted, err := s.DeleteWebhook(ctx, "acc_1", "wh_1", updated)
	require.NoError(t, err)
	require.Greater(t, deleted, updated)
	_, err = s.DeleteWebhook(ctx, "acc_1", "wh_1", 0)
	require.ErrorIs(t, err, config.ErrNotFound)
	_, err = s.UpdateWebhook(ctx, w, updated)
	require.ErrorIs(t, err, config.ErrNotFound)
}

func TestAnIdThatACallerMadeUpFindsNothing(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	ctx := t.Context()
	_, err := s.CreateWebhook(ctx, webhook("acc_1", "wh_1", "secret"))
	require.NoError(t, err)
	for _, id := range []string{"*", ">", "", "wh_1.", "wh_1\r\n", "wh 1", "wh_1.*"} {
		_, _, err := s.GetWebhook(ctx, "acc_1", id)
		require.ErrorIs(t, err, config.ErrNotFound, "%q", id)
		_, _, err = s.GetWebhook(ctx, id, "wh_1")
		require.ErrorIs(t, err, config.ErrNotFound, "%q", id)
		list, err := s.ListWebhooks(ctx, id, "", 0)
		require.NoError(t, err)
		require.Empty(t, list, "%q", id)
	}
}

func TestStoreListsInOrderAndByPage(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	ctx := t.Context()
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("wh_%02d", (i*7)%25)
		want = append(want, id)
		_, err := s.CreateWebhook(ctx, webhook("acc_1", id, id))
		require.NoError(t, err)
	}
	_, err := s.CreateWebhook(ctx, webhook("acc_2", "wh_other", ""))
	require.NoError(t, err)
	for _, id := range []string{"wh_00", "wh_03", "wh_24"} {
		_, err := s.DeleteWebhook(ctx, "acc_1", id, 0)
		require.NoError(t, err)
		want = slices.DeleteFunc(want, func(w string) bool { return w == id })
	}
	slices.Sort(want)

	var got []string
	after := ""
	for {
		page, err := s.ListWebhooks(ctx, "acc_1", after, 4)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), 4)
		for _, e := range page {
			after = e.Record.GetWebhook().GetId()
			got = append(got, after)
			_, rev, err := s.GetWebhook(ctx, "acc_1", after)
			require.NoError(t, err)
			require.Equal(t, rev, e.Revision)
		}
		if len(page) < 4 {
			break
		}
	}
	require.Equal(t, want, got)
	all, err := s.ListWebhooks(ctx, "acc_1", "", 0)
	require.NoError(t, err)
	require.Len(t, all, len(want))
}

func TestStoreAccountsEventTypesAndKeys(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	ctx := t.Context()

	rev, err := s.CreateAccount(ctx, account("acc_1", "one"))
	require.NoError(t, err)
	_, err = s.UpdateAccount(ctx, account("acc_1", "uno"), rev)
	require.NoError(t, err)
	_, err = s.CreateAccount(ctx, account("acc_2", "two"))
	require.NoError(t, err)
	accounts, err := s.ListAccounts(ctx, "", 0)
	require.NoError(t, err)
	require.Len(t, accounts, 2)
	require.Equal(t, "uno", accounts[0].Record.GetAccount().GetDisplayName())
	_, err = s.DeleteAccount(ctx, "acc_2", 0)
	require.NoError(t, err)
	_, _, err = s.GetAccount(ctx, "acc_2")
	require.ErrorIs(t, err, config.ErrNotFound)

	for _, name := range []string{"release.live", "release", "Listener.updated", "a..b", "*"} {
		_, err := s.CreateEventType(ctx, eventType("acc_1", name))
		require.NoError(t, err)
		e, _, err := s.GetEventType(ctx, "acc_1", name)
		require.NoError(t, err)
		require.Equal(t, name, e.GetEventType().GetName())
	}
	types, err := s.ListEventTypes(ctx, "acc_1", "Listener.updated", 2)
	require.NoError(t, err)
	require.Len(t, types, 2)
	require.Equal(t, "a..b", types[0].Record.GetEventType().GetName())
	require.Equal(t, "release", types[1].Record.GetEventType().GetName())
	gone, err := s.DeleteEventType(ctx, "acc_1", "release", 0)
	require.NoError(t, err)
	again, err := s.CreateEventType(ctx, eventType("acc_1", "release"))
	require.NoError(t, err, "a name may be taken again")
	e, rev, err := s.GetEventType(ctx, "acc_1", "release")
	require.NoError(t, err)
	require.Equal(t, again, rev)
	require.Greater(t, again, gone)
	_, err = s.UpdateEventType(ctx, e, rev)
	require.NoError(t, err)

	for _, k := range []struct {
		account, id string
		hash        byte
	}{{"acc_1", "key_2", 2}, {"acc_1", "key_1", 1}, {"", "key_9", 9}} {
		_, err := s.CreateKey(ctx, apiKey(k.account, k.id, k.hash))
		require.NoError(t, err)
	}
	keys, err := s.ListKeys(ctx, "acc_1", "", 10)
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.Equal(t, "key_1", keys[0].Record.GetKey().GetId())
	keys, err = s.ListKeys(ctx, "", "", 10)
	require.NoError(t, err)
	require.Len(t, keys, 1)
	k, _, err := s.GetKey(ctx, "acc_1", "key_2")
	require.NoError(t, err)
	require.Equal(t, []byte{2}, k.GetHash())
	_, _, err = s.GetKey(ctx, "acc_2", "key_2")
	require.ErrorIs(t, err, config.ErrNotFound)
	_, err = s.DeleteKey(ctx, "acc_1", "key_2")
	require.NoError(t, err)
	_, err = s.DeleteKey(ctx, "acc_1", "key_2")
	require.ErrorIs(t, err, config.ErrNotFound)
}

func TestNumbersAreTakenOnce(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	const takers, each = 4, 10
	var mu sync.Mutex
	var got []int64
	var wg sync.WaitGroup
	for range takers {
		wg.Go(func() {
			for range each {
				n, err := s.NextNumber(t.Context(), "webhooks")
				if err != nil {
					t.Errorf("take a number: %v", err)
					return
				}
				mu.Lock()
				got = append(got, n)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(got)
	require.Len(t, got, takers*each)
	for i, n := range got {
		require.Equal(t, int64(i+1), n)
	}
	n, err := s.NextNumber(t.Context(), "accounts")
	require.NoError(t, err)
	require.Equal(t, int64(1), n)
}

func TestANameHasOneOwner(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	ctx := t.Context()
	require.NoError(t, s.Reserve(ctx, "subdomain", "station", "acc_1"))
	require.NoError(t, s.Reserve(ctx, "subdomain", "station", "acc_1"), "again by its owner")
	require.ErrorIs(t, s.Reserve(ctx, "subdomain", "station", "acc_2"), config.ErrExists)
	require.NoError(t, s.Reserve(ctx, "uuid", "station", "acc_2"), "another kind")
	owner, err := s.Reserved(ctx, "subdomain", "station")
	require.NoError(t, err)
	require.Equal(t, "acc_1", owner)
	require.NoError(t, s.Release(ctx, "subdomain", "station", "acc_2"), "who does not have it gives nothing back")
	_, err = s.Reserved(ctx, "subdomain", "station")
	require.NoError(t, err)
	require.NoError(t, s.Release(ctx, "subdomain", "station", "acc_1"))
	require.NoError(t, s.Release(ctx, "subdomain", "station", "acc_1"))
	_, err = s.Reserved(ctx, "subdomain", "station")
	require.ErrorIs(t, err, config.ErrNotFound)
	require.NoError(t, s.Reserve(ctx, "subdomain", "station", "acc_2"))
}

func TestADeliveryIsMarkedOnce(t *testing.T) {
	t.Parallel()
	s := open(t, client(t, natstest.Start(t).Connect(t), 1))
	first, err := s.MarkCancelled(t.Context(), "acc_1", "dlv_1")
	require.NoError(t, err)
	again, err := s.MarkCancelled(t.Context(), "acc_1", "dlv_1")
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := s.MarkCancelled(t.Context(), "acc_1", "dlv_2")
	require.NoError(t, err)
	require.NotEqual(t, first, other)
}

func TestAServerThatIsAwayIsToldApartFromARefusal(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	s := open(t, client(t, server.Connect(t), 1))
	_, err := s.CreateAccount(t.Context(), account("acc_1", "one"))
	require.NoError(t, err)
	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = s.MarkCancelled(ctx, "acc_1", "dlv_1")
	require.Error(t, err)
	require.NotErrorIs(t, err, config.ErrNotFound)
	require.NotErrorIs(t, err, config.ErrExists)
	require.NotErrorIs(t, err, config.ErrConflict)
}
