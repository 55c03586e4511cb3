package dedupe

import (
	_ "github.com/redis/go-redis/v9" // planted: redis
)
