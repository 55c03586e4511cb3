package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/conf"
	"github.com/postrider/postrider/pkg/process"
	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/telemetry"
	"github.com/postrider/postrider/services/standalone"
)

const upLong = `Run everything in one process, for development: an embedded NATS server, the five services, and
a gRPC and an HTTP server in front of them. All that is kept is below --data-dir, and survives
a restart and a kill.

It prints where it listens and the admin key, which it makes at the first start and keeps in the
data folder, as it does with the keyset that encrypts webhooks' secrets.

It is made for one developer's machine: it listens on loopback, without TLS, and webhooks may have
http URLs and receivers on loopback, which a deployment refuses.

Options come from a YAML file (--config), POSTRIDER_* variables and flags, each stronger than the
one before.`

// upName is what the configuration calls the program.
const upName = "postrider up"

func (p *program) upCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "up [OPTIONS]",
		Short: "Run everything in one process",
		Long:  upLong,
		Example: `  postrider up
  postrider up --data-dir /tmp/postrider --grpc-listen 127.0.0.1:19090 --http-listen 127.0.0.1:18080
  postrider up --dispatcher-retry-time-scale 0.01
  postrider up --redis-url redis://127.0.0.1:6379/0`,
		DisableFlagParsing: true, // the options are the configuration's
		ValidArgsFunction:  completeOptions,
	}
	c.SetHelpFunc(func(*cobra.Command, []string) {
		c.Print(upLong + "\n\nExamples:\n" + c.Example + "\n\n" + options())
	})
	c.RunE = func(cmd *cobra.Command, args []string) error { return p.up(cmd.Context(), cmd, args) }
	return c
}

// options is the configuration's own help.
func options() string {
	cfg := standalone.Default()
	var out bytes.Buffer
	none := func(string) (string, bool) { return "", false }
	if err := conf.Load(upName, &cfg, []string{"--help"}, none, &out); !errors.Is(err, conf.ErrHelp) {
		return fmt.Sprintf("the options cannot be shown: %v\n", err)
	}
	return out.String()
}

// completeOptions offers the options of the configuration.
func completeOptions(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	cfg := standalone.Default()
	var out []string
	for _, o := range conf.Describe(&cfg) {
		if strings.HasPrefix(o.Flag, toComplete) {
			out = append(out, o.Flag+"\t"+o.Help)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// up runs everything until a signal.
func (p *program) up(ctx context.Context, cmd *cobra.Command, args []string) error {
	cfg := standalone.Default()
	var discard bytes.Buffer // the help is ours
	switch err := conf.Load(upName, &cfg, args, p.lookup, &discard); {
	case errors.Is(err, conf.ErrHelp) && bytes.HasPrefix(discard.Bytes(), []byte("#")): // as Markdown
		_, err := discard.WriteTo(p.Out)
		return err
	case errors.Is(err, conf.ErrHelp):
		return cmd.Help()
	case err != nil:
		return usage(err)
	}
	p.began = true
	process.TuneMemory(p.lookup)
	log, level := telemetry.Logger(cfg.Telemetry, p.Err)
	telemetry.TakeOver(log)
	svc, err := standalone.New(cfg, log, standalone.WithLevel(level))
	if err != nil {
		return err
	}
	var all service.Group
	begin := time.Now()
	all.Add(svc, service.Func("banner", func(context.Context) error {
		_, err := fmt.Fprint(p.Out, banner(&cfg, svc, time.Since(begin)))
		return err
	}, nil))
	ctx, end := service.UntilSignal(ctx, log)
	defer end()
	process.RestMemory(ctx, p.lookup)
	return service.Run(ctx, log, cfg.Admin.StopGrace, &all)
}

// banner says where things are and what is different from a deployment.
func banner(cfg *standalone.Config, svc *standalone.Service, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nPostrider runs, after %s.\n\n", took.Round(time.Millisecond))
	row := func(name, value string) { fmt.Fprintf(&b, "  %-10s %s\n", name, value) }
	row("gRPC", svc.GRPCAddr())
	row("HTTP", svc.HTTPURL())
	if url := svc.MetricsURL(); url != "" {
		row("metrics", url)
	}
	row("data", cfg.DataDir)
	row("admin key", svc.AdminKey())
	row("", "kept in "+svc.AdminKeyPath())
	if cfg.API.AllowHTTP || len(cfg.Dispatcher.Egress.AllowNetworks) > 0 {
		b.WriteString("\nFor development:")
		if cfg.API.AllowHTTP {
			b.WriteString(" webhooks may have http URLs;")
		}
		if len(cfg.Dispatcher.Egress.AllowNetworks) > 0 {
			b.WriteString(" receivers may be in " + strings.Join(cfg.Dispatcher.Egress.AllowNetworks, " and ") + ";")
		}
		b.WriteString(" a deployment refuses both.\n")
	}
	b.WriteString("\nIn another shell:\n\n" + nextSteps(cfg) + "\n")
	return b.String()
}

// nextSteps are commands that work as they stand.
func nextSteps(cfg *standalone.Config) string {
	def := standalone.Default()
	var env []string
	if cfg.DataDir != def.DataDir {
		env = append(env, "POSTRIDER_DATA_DIR="+cfg.DataDir)
	}
	if cfg.GRPC.Listen != def.GRPC.Listen {
		env = append(env, "POSTRIDER_SERVER="+cfg.GRPC.Listen)
	}
	text := ""
	if len(env) > 0 {
		text = "  export " + strings.Join(env, " ") + "\n"
	}
	return text + `  postrider accounts create "My account"
  export POSTRIDER_ACCOUNT=acc_...
  postrider listen --create --events '*'
  postrider publish order.paid --data '{"total":120}'
`
}
