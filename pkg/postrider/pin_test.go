package postrider_test

import "github.com/postrider/postrider/pkg/postrider"

// Values that stored bytes depend on. They are never changed.
const (
	pinnedDelivery  postrider.DeliveryID = "dlv_dxtlelbp55tb67ttrw5nlrjmgi"
	pinnedUUID      string               = "1de6b22c-2fef-861f-be73-8dbad5c52c32"
	pinnedPartition int                  = 142
)
