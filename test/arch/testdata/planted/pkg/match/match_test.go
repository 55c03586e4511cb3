package match_test

import (
	_ "github.com/postrider/postrider/pkg/conf" // planted: ranks
	_ "github.com/postrider/postrider/pkg/signature"
	_ "github.com/postrider/postrider/test/fixture"
)
