package egress_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/services/dispatcher/internal/egress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGuardRefusesWhatIsNotPublic(t *testing.T) {
	t.Parallel()
	guard, err := egress.NewGuard(nil)
	require.NoError(t, err)
	for _, address := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
		"127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::2", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1",
		"64:ff9b::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "100:0:0:1::1",
		"2001::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1",
		"fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1", "4000::1",
	} {
		require.ErrorIs(t, guard.Check(netip.MustParseAddr(address)), egress.ErrBlocked, address)
	}
	require.ErrorIs(t, guard.Check(netip.Addr{}), egress.ErrBlocked)
}

func TestGuardAllowsWhatIsPublic(t *testing.T) {
	t.Parallel()
	guard, err := egress.NewGuard(nil)
	require.NoError(t, err)
	for _, address := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
		"168.63.129.15", "172.15.255.255", "172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255",
		"198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8",
		"2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2a00:1450::1", "3ffe::1",
	} {
		require.NoError(t, guard.Check(netip.MustParseAddr(address)), address)
	}
}

func TestGuardAllowsWhatTheOperatorLists(t *testing.T) {
	t.Parallel()
	guard, err := egress.NewGuard([]string{"127.0.0.0/8", " 10.1.2.3 ", "::1", "fd00::/8", "::ffff:172.16.0.0/108"})
	require.NoError(t, err)
	for address, allowed := range map[string]bool{
		"127.0.0.1": true, "::ffff:127.0.0.1": true, "10.1.2.3": true, "10.1.2.4": false, "::1": true, "::2": false,
		"fd12::1": true, "fc00::1": false, "172.16.0.9": true, "172.31.0.9": true, "192.168.0.1": false, "8.8.8.8": true,
	} {
		err := guard.Check(netip.MustParseAddr(address))
		if allowed {
			require.NoError(t, err, address)
		} else {
			require.ErrorIs(t, err, egress.ErrBlocked, address)
		}
	}
}

func TestGuardReportsEveryBadEntryOfTheList(t *testing.T) {
	t.Parallel()
	_, err := egress.NewGuard([]string{"10.0.0.0/8", "nonsense", "10.0.0.0/40", "::/0", "::ffff:0:0/64"})
	require.ErrorContains(t, err, `"nonsense"`)
	require.ErrorContains(t, err, `"10.0.0.0/40"`)
	require.ErrorContains(t, err, `"::ffff:0:0/64"`)
	require.NotContains(t, err.Error(), `"10.0.0.0/8"`)
}

func TestGuardJudgesMappedAddressesLikeTheOneInside(t *testing.T) {
	t.Parallel()
	guard, err := egress.NewGuard(nil)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		var four [4]byte
		copy(four[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))
		plain := netip.AddrFrom4(four)
		mapped := netip.AddrFrom16(plain.As16())
		if (guard.Check(plain) == nil) != (guard.Check(mapped) == nil) {
			t.Fatalf("%s and %s are judged differently", plain, mapped)
		}
	})
}
