package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/natsconn"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/standalone/internal/backup"
)

func (p *program) backupCommand() *cobra.Command {
	return p.folderCommand(&cobra.Command{
		Use:   "backup DIR",
		Short: "Take a backup of the record out of NATS",
		Long: `Take a backup of every stream and bucket, while everything runs, into a new folder. No redrive of
dead letters may run meanwhile. What is accepted after EVENTS was taken, the first of the streams, is not
in the backup. The keyset of secrets (POSTRIDER_ENCRYPTION_KEY) is not in it either: keep it apart.`,
		Example: `  postrider backup /backups/2026-11-30 --nats-url nats://nats:4222`,
	}, func(ctx context.Context, nc *nats.Conn, dir string, g *progress) (*backup.Manifest, error) {
		return backup.Take(ctx, nc, dir, func(stream string, number, streams int, done, _ int64) {
			g.show("taking streams", int64(number), int64(streams), stream+", "+size(done)+" in all")
		})
	})
}

func (p *program) restoreCommand() *cobra.Command {
	return p.folderCommand(&cobra.Command{
		Use:   "restore DIR",
		Short: "Put a backup into an empty NATS",
		Long: `Put a backup into a NATS that holds no Postrider, before any service is started. Redis may be empty.
Deliveries that were made after the backup are made again, with the same webhook-id.`,
		Example: `  postrider restore /backups/2026-03-01 --nats-url nats://nats:4222`,
	}, func(ctx context.Context, nc *nats.Conn, dir string, g *progress) (*backup.Manifest, error) {
		g.bytes = true
		return backup.Restore(ctx, nc, dir, func(stream string, number, streams int, done, total int64) {
			g.show("restoring", done, total, fmt.Sprintf("%s, %d of %d", stream, number, streams))
		})
	})
}

// folderCommand is a natsCommand that works with a folder.
func (p *program) folderCommand(c *cobra.Command, do func(context.Context, *nats.Conn, string, *progress) (*backup.Manifest, error)) *cobra.Command {
	c.Args = cobra.ExactArgs(1)
	return p.natsCommand(c, func(ctx context.Context, nc *nats.Conn, args []string) error {
		g := p.progress()
		m, err := do(ctx, nc, args[0], g)
		g.end()
		if err != nil {
			return err
		}
		return p.showManifest(m)
	})
}

// natsCommand is a command that works on NATS itself.
func (p *program) natsCommand(c *cobra.Command, do func(context.Context, *nats.Conn, []string) error) *cobra.Command {
	cfg := natsconn.Default()
	f := c.Flags()
	p.stringVar(f, &cfg.URL, "nats-url", "POSTRIDER_NATS_URL", cfg.URL, "NATS servers, separated by commas")
	p.stringVar(f, &cfg.CredsFile, "nats-creds-file", "POSTRIDER_NATS_CREDS_FILE", "", "file with the NATS user's JWT and seed")
	p.stringVar(f, &cfg.NKeyFile, "nats-nkey-file", "POSTRIDER_NATS_NKEY_FILE", "", "file with the NATS user's nkey seed")
	p.stringVar(f, &cfg.CAFile, "nats-ca-file", "POSTRIDER_NATS_CA_FILE", "", "PEM file of the CAs of the servers' certificates")
	p.stringVar(f, &cfg.CertFile, "nats-cert-file", "POSTRIDER_NATS_CERT_FILE", "", "PEM file of the client's certificate")
	p.stringVar(f, &cfg.KeyFile, "nats-key-file", "POSTRIDER_NATS_KEY_FILE", "", "PEM file of the client's private key")
	c.RunE = p.local(func(ctx context.Context, args []string) error {
		log, _ := telemetry.Logger(telemetry.Config{LogLevel: "warn", LogFormat: telemetry.FormatText}, p.Err)
		nc, err := natsconn.Connect(ctx, cfg, "postrider/"+c.Name(), log)
		if err != nil {
			return err
		}
		defer nc.Close()
		return do(ctx, nc, args)
	})
	return c
}

func (p *program) showManifest(m *backup.Manifest) error {
	if p.globals.output == outputJSON {
		text, err := json.MarshalIndent(m, "", "  ")
		if err != nil {
			return err
		}
		_, err = p.Out.Write(append(text, '\n'))
		return err
	}
	return p.showTable(func(t *table) {
		t.row("STREAM", "MESSAGES", "LAST")
		for _, s := range m.Streams {
			t.row(s.Name, strconv.FormatUint(s.Messages, 10), strconv.FormatUint(s.LastSequence, 10))
		}
		t.line("taken from " + m.Started.Format(time.RFC3339) + " to " + m.Finished.Format(time.RFC3339))
	})
}
