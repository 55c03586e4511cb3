package pipeline

import (
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/services/dispatcher/internal/fifo"
	"github.com/postrider/postrider/services/dispatcher/internal/registry"
)

// goneQueue has webhooks disabled whose receivers answered 410. Until that is confirmed, their
// deliveries are held here by a mark on the revision; losing the queue with the process costs one
// more POST that is answered 410.
type goneQueue struct {
	p     *Pipeline
	queue *fifo.Queue[*registry.Webhook]
	wg    sync.WaitGroup
}

func newGoneQueue(p *Pipeline) *goneQueue {
	return &goneQueue{p: p, queue: fifo.New[*registry.Webhook]()}
}

func (g *goneQueue) start() {
	g.wg.Go(func() {
		for w, ok := g.queue.Pop(); ok; w, ok = g.queue.Pop() {
			g.disable(w)
		}
	})
}

func (g *goneQueue) push(w *registry.Webhook) { g.queue.Push(w) }

func (g *goneQueue) close() {
	g.queue.Close()
	g.wg.Wait()
}

// disable asks until it is answered, or until the webhook is not what it was. If its owner changed
// it in the meantime it is left as it is, and the scheduler releases what was held for the
// revision before.
func (g *goneQueue) disable(w *registry.Webhook) {
	for pause := time.Second; g.current(w); pause = min(2*pause, 30*time.Second) {
		disabled, err := g.p.deps.Disabler.Disable(g.p.ctx, w.Config.GetAccountId(), w.Config.GetId(), registry.HeldGone, w.Revision)
		if disabled {
			g.disabled(w)
		}
		if kind, ok := fault.KindOf(err); err == nil || ok && kind == fault.NotFound {
			return
		}
		g.p.deps.Logger.WarnContext(g.p.ctx, "webhook not disabled yet",
			slog.String("webhook", w.Config.GetId()), slog.String("reason", registry.HeldGone), slog.Any("error", err))
		if !g.wait(pause) {
			return
		}
	}
}

func (g *goneQueue) disabled(w *registry.Webhook) {
	g.p.deps.Meters.Disabled(g.p.ctx, registry.HeldGone)
	g.p.deps.Logger.InfoContext(g.p.ctx, "webhook disabled",
		slog.String("webhook", w.Config.GetId()), slog.String("reason", registry.HeldGone))
}

// current says whether the webhook is still configured as it was when its receiver answered 410.
func (g *goneQueue) current(w *registry.Webhook) bool {
	return g.p.ctx.Err() == nil && g.p.deps.Registry.Webhook(w.Config.GetId()) == w
}

func (g *goneQueue) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-g.p.ctx.Done():
		return false
	}
}
