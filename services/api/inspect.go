package api

import (
	"context"

	"github.com/postrider/postrider/services/api/internal/logstore"
	"github.com/postrider/postrider/services/api/internal/recorder"
)

// LogReport is how the delivery log stands.
type LogReport struct {
	// Kind is "sqlite" or "postgresql".
	Kind string
	// Missing says that there is none yet: the first api makes it.
	Missing bool
	// Schema is the version of its schema, Wanted that of this program.
	Schema, Wanted int64
	// Incomplete says that it is being built from the journal and does not answer yet.
	Incomplete bool
	// Consumer is the journal's consumer that fills it.
	Consumer string
}

// InspectLog looks at the delivery log that the configuration names. It changes nothing.
func InspectLog(ctx context.Context, cfg Config) (LogReport, error) {
	var i logstore.Inspection
	var err error
	if url := cfg.LogURL.Reveal(); url != "" {
		i, err = logstore.InspectPostgres(ctx, url)
	} else {
		i, err = logstore.InspectSQLite(ctx, cfg.LogFile)
	}
	return LogReport{
		Kind: i.Kind, Missing: i.Missing, Schema: i.Schema, Wanted: i.Wanted, Incomplete: i.Incomplete != 0,
		Consumer: recorder.DurableOf(cfg.Recorder, i.Token),
	}, err
}
