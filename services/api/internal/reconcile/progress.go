package reconcile

import (
	"time"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// The steps of a look, and what comes after.
const (
	streaming  = postriderv1.ReconcileStep_RECONCILE_STEP_STREAMS
	recording  = postriderv1.ReconcileStep_RECONCILE_STEP_RECORDER
	logged     = postriderv1.ReconcileStep_RECONCILE_STEP_LOG
	routing    = postriderv1.ReconcileStep_RECONCILE_STEP_EVENTS
	journaling = postriderv1.ReconcileStep_RECONCILE_STEP_JOURNAL
	indexing   = postriderv1.ReconcileStep_RECONCILE_STEP_INDEX
	settling   = postriderv1.ReconcileStep_RECONCILE_STEP_SETTLE
	repairing  = postriderv1.ReconcileStep_RECONCILE_STEP_REPAIR
)

// progressEvery is how often the progress of one step is told at most.
const progressEvery = 200 * time.Millisecond

// teller tells how far a reconciliation is. The zero value tells nobody.
type teller struct {
	tell func(*postriderv1.ReconcileProgress) error
	now  func() time.Time

	step postriderv1.ReconcileStep
	told time.Time
}

// show tells of each step as it begins, and then now and then. total is 0 if it is not known.
func (t *teller) show(step postriderv1.ReconcileStep, done, total int64) error {
	if t.tell == nil {
		return nil
	}
	now := t.now()
	if step == t.step && now.Sub(t.told) < progressEvery {
		return nil
	}
	t.step, t.told = step, now
	return t.tell(&postriderv1.ReconcileProgress{Step: step, Done: done, Total: total})
}
