package e2e

import (
	_ "github.com/postrider/postrider/services/ingest"
	_ "github.com/postrider/postrider/test/fixture"
)
