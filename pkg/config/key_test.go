package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKeysAreReversible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		account, name := rapid.String().Draw(t, "account"), rapid.String().Draw(t, "name")

		k := typeKey(account, name)
		requireSubject(t, k)
		gotAccount, gotName, ok := splitTypeKey(k)
		require.True(t, ok)
		require.Equal(t, account, gotAccount)
		require.Equal(t, name, gotName)

		k = key(account, name)
		requireSubject(t, k)
		parts, ok := splitKey(k, 2)
		require.True(t, ok)
		require.Equal(t, []string{account, name}, parts)
	})
}

// requireSubject fails unless k is a subject of NATS that is no wildcard.
func requireSubject(t *rapid.T, k string) {
	for token := range strings.SplitSeq(k, ".") {
		require.NotEmpty(t, token)
		require.NotContains(t, token, "*")
		require.NotContains(t, token, ">")
	}
	require.Equal(t, -1, strings.IndexFunc(k, func(r rune) bool { return r <= ' ' || r >= 0x7f }))
}

func TestReadableNamesStayReadable(t *testing.T) {
	t.Parallel()
	require.Equal(t, "acc_1.release.live", typeKey("acc_1", "release.live"))
	require.Equal(t, "acc_1.Listener.updated", typeKey("acc_1", "Listener.updated"))
	require.Equal(t, "acc_1.=2Ea.=2Eb=2E", typeKey("acc_1", ".a..b."))
	require.Equal(t, "=2A.=3E", key("*", ">"))
}

func TestForeignKeysAreNoKeys(t *testing.T) {
	t.Parallel()
	for _, k := range []string{"", "a=", "a=2", "a=zz", "=41", "a b", "=="} {
		_, ok := unescape(k)
		require.False(t, ok, k)
	}
	_, ok := splitKey("a.b", 3)
	require.False(t, ok)
	_, ok = hashOfKey("acc_1.key_1.xyz")
	require.False(t, ok)
}
