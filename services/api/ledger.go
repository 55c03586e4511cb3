package api

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/services/api/internal/activity"
	"github.com/postrider/postrider/services/api/internal/audit"
	"github.com/postrider/postrider/services/api/internal/ledger"
	"github.com/postrider/postrider/services/api/internal/manage"
	"github.com/postrider/postrider/services/api/internal/reconcile"
)

// Rules is the scope that each method of the public management services needs, for a server that
// serves others beside them.
func Rules() map[string]postrider.Scope {
	rules := manage.Rules()
	maps.Copy(rules, ledger.Rules())
	maps.Copy(rules, audit.Rules())
	maps.Copy(rules, activity.Rules())
	return rules
}

// openLedger makes what accounts for every delivery.
func (s *Service) openLedger() error {
	d := s.deps
	if d.Events == nil {
		return errors.New("the ledger needs EVENTS")
	}
	counter := ledger.NewCounter(ledger.Sources{
		Streams: d.Streams, Log: s.log, Journal: d.Journal, Recorder: s.recorder.Durable, Events: d.Events, Now: time.Now,
	})
	meter, err := ledger.NewMeter(counter, d.Store, d.Telemetry.Meter("postrider/api"), d.Logger)
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	reconciler := reconcile.New(reconcile.Default(), reconcile.Deps{
		Streams: d.Streams, Events: d.Events, Journal: d.Journal, Recorder: s.recorder.Durable, Letters: d.DeadLetters,
		Log: s.log, Scheduler: d.Scheduler, Now: time.Now,
	})
	s.ledger = ledger.NewServer(counter, d.Store, reconciler, d.Logger)
	s.loops.Add(service.Loop("ledger", meter.Run))
	return nil
}
