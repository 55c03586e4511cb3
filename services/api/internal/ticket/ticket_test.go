package ticket_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/access"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/seal"
	"github.com/postrider/postrider/services/api/internal/ticket"
)

const account = postrider.AccountID("acc_01JDXN0000000000000000000A")

func TestATicketOpensOneAccountForItsTimeAndNoMoreThanItsMethods(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	office := newOffice(t, func() time.Time { return now })
	text, err := office.New(account, now.Add(time.Hour), false)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(text, access.TicketPrefix))
	require.Less(t, len(text), 512, "a bearer credential is at most that long")
	p, err := office.Open(text)
	require.NoError(t, err)
	require.Equal(t, account, p.Account)
	require.False(t, p.Admin)
	require.True(t, p.Allows(postrider.ScopeManage))
	require.False(t, p.Allows(postrider.ScopePublish))
	require.Equal(t, map[string]bool{"/x/Y": true}, p.Methods)
	require.Equal(t, now.Add(time.Hour), p.Expires.UTC())

	reader, err := office.New(account, now.Add(time.Hour), true)
	require.NoError(t, err)
	p, err = office.Open(reader)
	require.NoError(t, err)
	require.True(t, p.Allows(postrider.ScopeRead))
	require.False(t, p.Allows(postrider.ScopeManage))

	now = now.Add(time.Hour)
	_, err = office.Open(text)
	e, _ := fault.As(err)
	require.Equal(t, access.ReasonKeyExpired, e.Reason)
}

func TestNothingElseIsATicket(t *testing.T) {
	t.Parallel()
	office := newOffice(t, time.Now)
	good, err := office.New(account, time.Now().Add(time.Hour), false)
	require.NoError(t, err)
	middle := []byte(good)
	middle[len(middle)/2] ^= 1
	foreign, err := newOffice(t, time.Now).New(account, time.Now().Add(time.Hour), false)
	require.NoError(t, err)
	empty, err := office.New("", time.Now().Add(time.Hour), false)
	require.NoError(t, err)
	for _, text := range []string{"", access.TicketPrefix, "prk_x", string(middle), strings.TrimPrefix(good, access.TicketPrefix), foreign, empty} {
		_, err := office.Open(text)
		kind, _ := fault.KindOf(err)
		require.Equal(t, fault.Unauthenticated, kind, text)
	}
}

func newOffice(t *testing.T, now func() time.Time) *ticket.Office {
	t.Helper()
	keyset, err := seal.Generate()
	require.NoError(t, err)
	sealer, err := seal.Parse(keyset)
	require.NoError(t, err)
	return ticket.NewOffice(sealer, map[string]bool{"/x/Y": true}, now)
}
