package conf

import (
	_ "github.com/postrider/postrider/services/router" // planted: layers
)
