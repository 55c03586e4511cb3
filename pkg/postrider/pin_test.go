package postrider_test

import "github.com/postrider/postrider/pkg/postrider"

// Values that stored bytes depend on. They are never changed.
const (
	pinnedDelivery  postrider.DeliveryID = "dlv_agjvjnrvz6db7pttrw5nlrjmgi"
	pinnedUUID      string               = "019354b6-35cf-861f-be73-8dbad5c52c32"
	pinnedPartition int                  = 142
)
