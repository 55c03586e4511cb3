package router_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/rpc"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	routerv1 "github.com/postrider/postrider/proto/gen/go/postrider/router/v1"
	"github.com/postrider/postrider/test/fixture/logtest"
)

func TestStoredEventsAreMatchedAsTheyAreRouted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all, releases := b.webhook(t, "*"), b.webhook(t, "release.*")
	svc := b.start(t)
	listener, dialer := rpc.InMemory()
	server, err := rpc.NewServer(rpc.ServerConfig{}, logtest.New(t), rpc.WithListener(listener))
	require.NoError(t, err)
	svc.Register(server.Registrar())
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	conn, err := rpc.Dial(rpc.ClientConfig{Target: rpc.InMemoryTarget}, dialer)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := routerv1.NewRouterServiceClient(conn)

	release := b.publish(t)
	order := b.publish(t, func(ev *recordv1.Event) { ev.Type = "order.paid" })
	resp, err := client.MatchEvents(t.Context(), &routerv1.MatchEventsRequest{AccountId: string(b.account), Events: []*recordv1.Event{release, order}})
	require.NoError(t, err)
	require.Len(t, resp.GetMatches(), 2)
	require.ElementsMatch(t, []string{all, releases}, resp.GetMatches()[0].GetWebhookIds())
	require.Equal(t, []string{all}, resp.GetMatches()[1].GetWebhookIds())
	routed := map[string][]string{}
	for _, d := range b.take(t, 3) {
		routed[d.GetEventId()] = append(routed[d.GetEventId()], d.GetWebhookId())
	}
	require.ElementsMatch(t, routed[release.GetId()], resp.GetMatches()[0].GetWebhookIds(), "as routing did")

	resp, err = client.MatchEvents(t.Context(), &routerv1.MatchEventsRequest{AccountId: "acc_other", Events: []*recordv1.Event{release}})
	require.NoError(t, err)
	require.Empty(t, resp.GetMatches()[0].GetWebhookIds(), "another account's webhooks are its own")
	_, err = client.MatchEvents(t.Context(), &routerv1.MatchEventsRequest{})
	kind, _ := fault.KindOf(err)
	require.Equal(t, fault.Invalid, kind)
}
