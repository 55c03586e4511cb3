package scheduler

import (
	_ "github.com/postrider/postrider/services/scheduler/internal/retryset"
)
