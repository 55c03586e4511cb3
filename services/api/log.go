package api

import (
	"context"
	"log/slog"

	"github.com/postrider/postrider/services/api/internal/logstore"
)

// openLog opens the delivery log that the configuration names.
func openLog(ctx context.Context, cfg *Config, log *slog.Logger) (logstore.Store, error) {
	if url := cfg.LogURL.Reveal(); url != "" {
		return logstore.OpenPostgres(ctx, url, cfg.LogConnections, log)
	}
	return logstore.OpenSQLite(ctx, cfg.LogFile, log)
}
