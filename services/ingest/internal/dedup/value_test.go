package dedup

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/postrider"
)

func TestValuesReadBackAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := value{
			state:       rapid.SampledFrom([]byte{statePending, stateFinished}).Draw(t, "state"),
			token:       Token(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "token")),
			incarnation: [8]byte(rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "incarnation")),
			fingerprint: Fingerprint(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "fingerprint")),
			event:       ulid.ULID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "event")),
		}
		if v.state == stateFinished {
			v.sequence = rapid.Uint64().Draw(t, "sequence")
		} else {
			v.life = time.Duration(rapid.Uint32().Draw(t, "life")) * time.Millisecond
			v.takeAt = time.Duration(rapid.Uint32().Draw(t, "take at")) * time.Millisecond
		}
		text := v.encode()
		require.Len(t, text, valueSize)
		got, err := decodeValue(string(text))
		require.NoError(t, err)
		require.Equal(t, v, got)
		got, err = decodeValue(string(text) + "what a later version adds")
		require.NoError(t, err)
		require.Equal(t, v, got)
	})
}

func FuzzDecodeValue(f *testing.F) {
	c := claimOf(same, one)
	v := pendingValue(&c, [8]byte{1}, time.Second)
	f.Add(string(v.encode()))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := decodeValue(text)
		if err != nil {
			require.ErrorIs(t, err, errValue)
			return
		}
		require.Equal(t, text[:valueSize], string(v.encode()))
	})
}

func TestKeysOfDifferentPairsDiffer(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, KeyOf("acc_1", "2key"), KeyOf("acc_12", "key"))
	require.NotEqual(t, KeyOf("acc_1", "key"), KeyOf("acc_2", "key"))
}

func TestTheWindowOfAnAccountIsHeldToTheLongest(t *testing.T) {
	t.Parallel()
	c := Config{Takeover: time.Second, Longest: time.Hour}
	require.Equal(t, time.Hour, c.window(acc))
	c.Window = func(a postrider.AccountID) time.Duration {
		if a == acc {
			return time.Minute
		}
		return 2 * time.Hour
	}
	require.Equal(t, time.Minute, c.window(acc))
	require.Equal(t, time.Hour, c.window(oth))
	require.Error(t, Config{Takeover: time.Hour, Longest: time.Hour}.validate())
	require.Error(t, Config{Longest: time.Hour}.validate())
}
