package egress

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// No host is taken for a name that a resolver of any kind could read as an address.
func FuzzLiteral(f *testing.F) {
	for _, s := range []string{
		"127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "::1", "[::1]", "example.com", "example.com.",
		"1.example", "a.0x", "a.0xg", ".", "", "fe80::1%lo", "::ffff:7f00:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		addr, ok, err := literal(host)
		if err != nil {
			require.ErrorIs(t, err, ErrBlocked)
			require.False(t, ok)
			return
		}
		if ok {
			require.True(t, addr.IsValid())
			return
		}
		require.Nil(t, net.ParseIP(host))
		_, parseErr := netip.ParseAddr(host)
		require.Error(t, parseErr)
		require.False(t, endsInNumber(host))
	})
}
