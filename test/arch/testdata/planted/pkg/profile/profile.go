package profile

import (
	_ "github.com/postrider/postrider/pkg/match"
	_ "github.com/postrider/postrider/pkg/retry"
	_ "github.com/postrider/postrider/pkg/seal" // planted: ranks
)
