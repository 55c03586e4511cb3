package config_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const within = 20 * time.Second

func client(t *testing.T, nc *nats.Conn, replicas int) *stream.Client {
	t.Helper()
	cfg := stream.Default()
	cfg.Replicas = replicas
	c, err := stream.New(nc, cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func open(t *testing.T, c *stream.Client) *config.Store {
	t.Helper()
	s, err := config.Ensure(t.Context(), c)
	require.NoError(t, err)
	return s
}

func webhook(account, id, name string) *recordv1.Webhook {
	return &recordv1.Webhook{Webhook: &postriderv1.Webhook{Id: id, AccountId: account, DisplayName: name}}
}

func account(id, name string) *recordv1.Account {
	return &recordv1.Account{Account: &postriderv1.Account{Id: id, DisplayName: name}}
}

func eventType(account, name string) *recordv1.EventType {
	return &recordv1.EventType{EventType: &postriderv1.EventType{AccountId: account, Name: name}}
}

func apiKey(account, id string, hash ...byte) *recordv1.Key {
	return &recordv1.Key{Key: &postriderv1.ApiKey{Id: id, AccountId: account}, Hash: hash}
}
