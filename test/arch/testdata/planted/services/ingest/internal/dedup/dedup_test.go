package dedup_test

import (
	_ "github.com/postrider/postrider/services/scheduler" // planted: services
	_ "github.com/postrider/postrider/test/fixture"
)
