package match

import (
	_ "github.com/postrider/postrider/pkg/retry" // planted: ranks
)
