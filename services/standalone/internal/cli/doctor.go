package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/services/standalone/internal/doctor"
)

func (p *program) doctorCommand() *cobra.Command {
	var file, dir, url string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at what a deployment stands on",
		Long: `Look at the configuration, NATS, Redis, the delivery log, the clocks and the way to receivers, and say
what is wrong and how to mend it. Nothing is changed.

It reads the options of the services from where they do: POSTRIDER_* variables, and the file that --config
names. Run it where a service runs, with its environment, but as a NATS user who may ask for every stream, as
for a backup. With --data-dir, or where "postrider up" has a data
folder and no POSTRIDER_NATS_URL is set, it looks at that folder instead.

It exits with 1 if it finds a failure.`,
		Example: `  postrider doctor
  postrider doctor --config /etc/postrider/dispatcher.yaml --url https://receiver.example.com/hooks
  postrider doctor --data-dir ./var -o json`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "YAML file of the options")
	f.StringVar(&dir, "data-dir", "", `data folder of "postrider up"`)
	f.StringVar(&url, "url", "", "receiver to ask with HEAD, through the guard of egress")
	c.RunE = p.local(func(ctx context.Context, _ []string) error {
		report := p.examine(ctx, file, dir, url)
		if err := p.showReport(report); err != nil {
			return err
		}
		if n := report.Failures(); n > 0 {
			return failf("%d of %d checks failed", n, len(report.Findings))
		}
		return nil
	})
	return c
}

// examine reads the configuration of the one process or of the services, and has it looked at.
func (p *program) examine(ctx context.Context, file, dir, url string) *doctor.Report {
	var args []string
	if file != "" {
		args = append(args, "--config", file)
	}
	var discard bytes.Buffer // no help is asked for
	if dir != "" || p.hasFolder() {
		if dir != "" {
			args = append(args, "--data-dir", dir)
		}
		cfg := standalone.Default()
		if err := conf.Load(upName, &cfg, args, p.lookup, &discard); err != nil {
			return doctor.Unreadable(err)
		}
		return doctor.Folder(ctx, &cfg, url)
	}
	cfg := doctor.DefaultConfig()
	if err := conf.Load("the services", &cfg, args, p.lookup, &discard); err != nil {
		return doctor.Unreadable(err)
	}
	return doctor.Services(ctx, &cfg, url)
}

// hasFolder reports whether everything runs, or ran, in one process here.
func (p *program) hasFolder() bool {
	if url, ok := p.lookup("POSTRIDER_NATS_URL"); ok && url != "" {
		return false
	}
	dir := standalone.DefaultDataDir
	if named, ok := p.lookup("POSTRIDER_DATA_DIR"); ok && named != "" {
		dir = named
	}
	_, err := os.Stat(filepath.Join(dir, standalone.AdminKeyFile))
	return err == nil
}

func (p *program) showReport(r *doctor.Report) error {
	if p.globals.output == outputJSON {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		_, err = p.Out.Write(append(text, '\n'))
		return err
	}
	return p.showTable(func(t *table) {
		for _, f := range r.Findings {
			t.row(string(f.Status), f.Check, f.What)
			if f.Mend != "" {
				t.row("", "", "to mend it: "+f.Mend)
			}
		}
	})
}
