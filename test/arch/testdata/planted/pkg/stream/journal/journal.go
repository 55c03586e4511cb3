package journal

import (
	_ "github.com/postrider/postrider/pkg/stream/eventstream" // planted: ranks
)
