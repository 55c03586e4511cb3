// Package cli is the command line `postrider`: it runs everything in one process, and it is a
// client of the public gRPC API of any deployment. It keeps nothing.
package cli

import (
	"context"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Streams are where the program reads and writes.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// program is one run of the command line.
type program struct {
	Streams
	lookup  func(string) (string, bool)
	globals globals
	began   bool // whether a command's own work has begun: what fails before is wrong usage
}

// now is the time that words such as "+10m" count from.
func (*program) now() time.Time { return time.Now() }

// Run runs the program and returns its exit code. lookup is os.LookupEnv in a program.
func Run(ctx context.Context, args []string, lookup func(string) (string, bool), streams Streams) int {
	p := &program{Streams: streams, lookup: lookup}
	root := p.root() //nolint:contextcheck // the commands get the context from ExecuteContext
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	return p.report(err)
}

const rootLong = `Postrider delivers webhooks: an event published over gRPC reaches every webhook that
wants it, signed, and is tried again until it does.

"postrider up" runs everything in one process, with its state below ./var. The other
commands talk gRPC to a running deployment, of one process or of many.

Start here, in two shells:

  postrider up

  postrider accounts create "My account"
  export POSTRIDER_ACCOUNT=acc_...                 # the id that it printed
  postrider listen --create --events 'release.*'   # prints what arrives
  postrider publish release.live --data '{"isrc":"AUJM02612345"}'

Which deployment, and as whom:

  --server, POSTRIDER_SERVER     the management API
  --ingest-server, POSTRIDER_INGEST_SERVER
                                 where events go, if elsewhere
  --key, POSTRIDER_KEY           the credential; prefer the variable, because other users of
                                 the machine can see flags; file:/path reads a file
  --account, POSTRIDER_ACCOUNT   the account to work in, with an admin key

Without a key, a server on this machine is called with the admin key that "postrider up" keeps
in ./var/admin.key (POSTRIDER_DATA_DIR names another folder).

Exit codes:

  0  done
  1  failed: an attempt, a signature, a balance, the program itself
  2  wrong usage
  3  not found
  4  refused: no right, or a rule is broken
  5  unavailable: no server, or it asks to try again later`

// root is the whole tree of commands.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "postrider",
		Short:         "Deliver webhooks",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.CompletionOptions.HiddenDefaultCmd = false
	p.addGlobals(root)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "events", Title: "Events and deliveries:"},
		&cobra.Group{ID: "manage", Title: "Manage:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", p.upCommand(), p.encryptionKeyCommand())
	add("events", p.publishCommand(), p.listenCommand(), p.eventsCommand(), p.deliveriesCommand(), p.deadLettersCommand(), p.replaysCommand())
	add("manage", p.accountsCommand(), p.keysCommand(), p.webhooksCommand(), p.eventTypesCommand())
	add("run", p.doctorCommand(), p.benchCommand(), p.reconcileCommand(), p.recorderCommand(), p.backupCommand(), p.restoreCommand(), p.shardsCommand())
	add("events", p.ledgerCommand(), p.activityCommand())
	add("manage", p.auditCommand(), p.portalLinkCommand())
	root.AddCommand(p.versionCommand())
	p.complete(root)
	return root
}

// group is a command that only holds others.
func group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	c.AddCommand(commands...)
	return c
}

// local makes what cobra runs of a command that calls no server. A signal ends its context; a
// second one ends the process.
func (p *program) local(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := p.globals.check(); err != nil {
			return err
		}
		p.began = true
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		return run(ctx, args)
	}
}

// remote is local for a command that calls the API.
func (p *program) remote(run func(ctx context.Context, c *client, args []string) error) func(*cobra.Command, []string) error {
	return p.local(func(ctx context.Context, args []string) error {
		c, err := p.connect()
		if err != nil {
			return err
		}
		defer c.close()
		return run(ctx, c, args)
	})
}
