package rpc

import (
	_ "github.com/postrider/postrider/pkg/conf"
	_ "github.com/postrider/postrider/pkg/fault"
	_ "github.com/postrider/postrider/pkg/service" // planted: ranks
	_ "github.com/postrider/postrider/pkg/telemetry"
)
