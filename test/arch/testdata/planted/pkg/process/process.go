package process

import (
	_ "github.com/postrider/postrider/pkg/natsconn"
	_ "github.com/postrider/postrider/pkg/stream/eventstream"
)
