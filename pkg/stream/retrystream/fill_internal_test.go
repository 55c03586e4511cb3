package retrystream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/stream"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

func TestABodySaysWhatHeadersSay(t *testing.T) {
	t.Parallel()
	now := timestamppb.New(time.Unix(1_700_000_000, 123_456_789))
	for _, kind := range []recordv1.RetryKind{recordv1.RetryKind_RETRY_KIND_WAITING, recordv1.RetryKind_RETRY_KIND_HELD} {
		r := &recordv1.Retry{
			Delivery: &recordv1.Delivery{
				Id: "dlv_1", AccountId: "acc_1", WebhookId: "wh_1", EventId: "evt_1", EventSequence: 1 << 40, EventType: "release.live",
				EventTime: now, AcceptTime: now, RouteTime: now, ContentType: "application/json", Data: make([]byte, 4096),
				Progress: &recordv1.Progress{Attempts: 300, FirstAttemptTime: now, LastStatusCode: 503, LastErrorClass: "http_status"},
			},
			Kind: kind, DueTime: now, WebhookRevision: 1 << 50, Reason: "http_status", Follows: 7,
		}
		data, err := proto.Marshal(r)
		require.NoError(t, err)
		got, err := bareEntry(3, &stream.Stored{Sequence: 42, Data: data})
		require.NoError(t, err)
		require.Equal(t, Entry{
			Account: "acc_1", Webhook: "wh_1", Delivery: "dlv_1", Sequence: 42, Due: time.UnixMilli(1_700_000_000_123), Kind: kind,
		}, got)
		for cut := range len(data) - 1 {
			_, err := bareEntry(3, &stream.Stored{Sequence: 42, Data: data[:cut]})
			if err == nil { // cut between two fields behind what is needed
				require.Greater(t, cut, 4096)
			}
		}
	}
	_, err := bareEntry(3, &stream.Stored{Sequence: 42, Data: []byte("\xff\xff\xff")})
	require.ErrorContains(t, err, "retry 42 of shard 3 is malformed")
}
