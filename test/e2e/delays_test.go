//go:build e2e

package e2e

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// hours is a retry schedule of one delay, long enough (also scaled) to find the delivery waiting.
func hours(n int) []*durationpb.Duration {
	return []*durationpb.Duration{durationpb.New(time.Duration(n) * time.Hour)}
}
