package codec

import (
	_ "github.com/postrider/postrider/pkg/stream" // planted: ranks
)
