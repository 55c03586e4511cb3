package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	"github.com/postrider/postrider/test/fixture/natstest"
)

func TestAnIdempotencyKeyIsClaimedOnce(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t)
	one, two := open(t, client(t, server.Connect(t), 1)), open(t, client(t, server.Connect(t), 1))
	_, _, err := one.GetIdempotent(t.Context(), "acc_1", "PUT /x", "k")
	require.ErrorIs(t, err, config.ErrNotFound)
	rev, err := one.PutIdempotent(t.Context(), "acc_1", "PUT /x", "k", &recordv1.IdempotentResult{ResourceId: "r"}, 0)
	require.NoError(t, err)
	_, err = two.PutIdempotent(t.Context(), "acc_1", "PUT /x", "k", &recordv1.IdempotentResult{}, 0)
	require.ErrorIs(t, err, config.ErrConflict)
	rec, at, err := two.GetIdempotent(t.Context(), "acc_1", "PUT /x", "k")
	require.NoError(t, err)
	require.Equal(t, rev, at)
	require.Equal(t, "r", rec.GetResourceId())
	_, err = two.PutIdempotent(t.Context(), "acc_1", "PUT /x", "k", &recordv1.IdempotentResult{Status: 200}, rev)
	require.NoError(t, err)
	_, err = one.PutIdempotent(t.Context(), "acc_1", "PUT /x", "k", &recordv1.IdempotentResult{Status: 500}, rev)
	require.ErrorIs(t, err, config.ErrConflict)
	for _, other := range [][3]string{{"acc_2", "PUT /x", "k"}, {"acc_1", "PUT /y", "k"}, {"acc_1", "PUT /x", "j"}} {
		_, _, err := one.GetIdempotent(t.Context(), other[0], other[1], other[2])
		require.ErrorIs(t, err, config.ErrNotFound, "%v is another", other)
	}
}
