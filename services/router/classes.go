package router

import (
	"sync"

	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// classes knows the classes of accounts, for metrics. It keeps only those that are not of the
// default. It is fed by a mirror of the configuration, and lost with the process.
type classes struct {
	mu sync.RWMutex
	by map[string]string
}

func newClasses() *classes { return &classes{by: make(map[string]string)} }

func (c *classes) put(a *recordv1.Account, _ uint64) {
	class := postrider.AccountClass(a.GetAccount().GetAccountClass())
	c.mu.Lock()
	defer c.mu.Unlock()
	if class == postrider.AccountStandard {
		delete(c.by, a.GetAccount().GetId())
	} else {
		c.by[a.GetAccount().GetId()] = class
	}
}

func (c *classes) remove(account string, _ uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, account)
}

// of is the class of an account.
func (c *classes) of(account string) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return postrider.AccountClass(c.by[account])
}
