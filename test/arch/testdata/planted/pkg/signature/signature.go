package signature

import (
	_ "github.com/postrider/postrider/pkg/rpc" // planted: ranks
)
