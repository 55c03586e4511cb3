package conf

import (
	_ "github.com/postrider/postrider/pkg/retry"
)
