package retryset

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// The scripts' contracts stand in their files.
var (
	//go:embed claim.lua
	claimLua string
	//go:embed begin.lua
	beginLua string
	//go:embed finish.lua
	finishLua string
	//go:embed extend.lua
	extendLua string
	//go:embed unlock.lua
	unlockLua string

	claimScript  = redis.NewScript(claimLua)
	beginScript  = redis.NewScript(beginLua)
	finishScript = redis.NewScript(finishLua)
	extendScript = redis.NewScript(extendLua)
	unlockScript = redis.NewScript(unlockLua)
)
