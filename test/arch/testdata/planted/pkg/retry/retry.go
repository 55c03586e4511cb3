package retry

import (
	_ "github.com/postrider/postrider/pkg/fault"
	_ "github.com/postrider/postrider/pkg/postrider"
	_ "github.com/postrider/postrider/proto/gen"
)
