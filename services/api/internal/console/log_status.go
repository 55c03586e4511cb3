package console

import (
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// slowLog is how old what the delivery log has not recorded may be until pages say that they are
// behind. Below it is what is on its way in any case.
const slowLog = 2 * time.Second

// logView is how far the delivery log is.
type logView struct {
	*postriderv1.GetLogStatusResponse
	State string // "current", "behind" or "rebuilding"
	Class string // how that looks
}

// logStatus asks how far the delivery log is. It is nil where that cannot be told now, and in the
// portal, whose readers have nothing to do with it.
func (p *page) logStatus() *logView {
	if p.site.portal {
		return nil
	}
	resp, err := p.api.log.GetLogStatus(p.ctx, &postriderv1.GetLogStatusRequest{})
	switch {
	case err != nil:
		return nil
	case resp.GetRebuilding():
		return &logView{resp, "rebuilding", "warn"}
	case resp.GetLag().AsDuration() > slowLog:
		return &logView{resp, "behind", "warn"}
	}
	return &logView{resp, "current", "good"}
}
