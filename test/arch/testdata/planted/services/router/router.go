package router

import (
	_ "github.com/postrider/postrider/services/ingest" // planted: services
	_ "github.com/postrider/postrider/test/fixture"    // planted: fixtures
)
