package telemetry

import _ "github.com/postrider/postrider/pkg/natsconn" // planted: ranks
