package fault

import (
	_ "github.com/postrider/postrider/pkg/postrider"
)
