package postrider_test

import "github.com/postrider/postrider/pkg/postrider"

// Values that stored bytes depend on. They are never changed.
const (
	pinnedDelivery  postrider.DeliveryID = "dlv_dxtlelbp55tb67ttrw5nlrjmgi"
	pinnedUUID      string               = "2b7520e8-b67d-87ec-9820-03a49ba35408"
	pinnedPartition int                  = 142
)
