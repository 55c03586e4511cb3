package upward

import (
	_ "github.com/postrider/postrider/pkg/retry" // planted: layers
)
