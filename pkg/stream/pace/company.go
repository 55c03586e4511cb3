package pace

import "time"

// alone is for how long nothing of another account must have been taken for one to be alone.
const alone = 10 * time.Second

// company is of which two accounts something was taken last, and when. Whether there are more is nobody's
// concern.
type company [2]struct {
	account string
	at      time.Time
}

// saw says that something of the account was taken.
func (c *company) saw(account string, now time.Time) {
	at := 0
	switch {
	case c[0].account == account:
	case c[1].account == account, c[1].at.Before(c[0].at):
		at = 1
	}
	c[at].account, c[at].at = account, now
}

// since names those of which something was taken after that.
func (c *company) since(then time.Time) []string {
	var names []string
	for _, of := range c {
		if of.at.After(then) {
			names = append(names, of.account)
		}
	}
	return names
}
