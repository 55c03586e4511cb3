package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/seal"
)

const rotateLong = `Print the keyset of FILE (- for the input) with a new key that encrypts from now on; the old
keys still decrypt. --write puts it in place of FILE.

For one process that is all: stop it, rotate, start it. Where several processes share the keyset,
none may meet a value that it cannot decrypt, so it takes two steps, each handed out to all
processes before the next: --step add, then --step promote. When everything was encrypted again,
--step prune drops the old keys.`

func (p *program) encryptionKeyCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "encryption-key",
		Short: "Make and rotate the keyset that encrypts secrets at rest",
		Long: `The dispatcher and api services need the same keyset in POSTRIDER_ENCRYPTION_KEY, in clear or as
file:/path. "postrider up" makes and keeps its own. Losing the keyset loses every webhook's secret.`,
	}, p.encryptionKeyGenerate(), p.encryptionKeyRotate())
}

func (p *program) encryptionKeyGenerate() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "generate",
		Short: "Make a keyset",
		Example: `  postrider encryption-key generate --out encryption.key
  kubectl create secret generic postrider-encryption-key --from-literal=key="$(postrider encryption-key generate)"`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&out, "out", "", "file to write, which must not exist; default: the output")
	c.RunE = p.local(func(context.Context, []string) error {
		keyset, err := seal.Generate()
		if err != nil {
			return err
		}
		if out == "" {
			_, err := fmt.Fprintln(p.Out, keyset)
			return err
		}
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the user names the file
		if err != nil {
			return usagef("--out: %w", err)
		}
		_, err = fmt.Fprintln(f, keyset)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	})
	return c
}

func (p *program) encryptionKeyRotate() *cobra.Command {
	var step string
	var write bool
	c := &cobra.Command{
		Use:   "rotate FILE",
		Short: "Add a key to a keyset, for it to encrypt from now on",
		Long:  rotateLong,
		Example: `  postrider encryption-key rotate var/encryption.key --write
  postrider encryption-key rotate encryption.key --step add > encryption.key.new`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&step, "step", "all", "all at once, or add, promote or prune")
	f.BoolVar(&write, "write", false, "replace the file")
	c.RunE = p.local(func(_ context.Context, args []string) error {
		change, ok := map[string]func(string) (string, error){
			"all": seal.Rotate[string], "add": seal.Add[string], "promote": seal.Promote[string], "prune": seal.Prune[string],
		}[step]
		if !ok {
			return usagef("--step must be all, add, promote or prune, not %q", step)
		}
		if write && args[0] == "-" {
			return usagef("--write needs a file")
		}
		text, err := p.file("FILE", args[0])
		if err != nil {
			return err
		}
		keyset, err := change(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		if write {
			return replace(args[0], keyset+"\n")
		}
		_, err = fmt.Fprintln(p.Out, keyset)
		return err
	})
	return c
}

// replace puts a text in place of a file, whole or not at all, for its owner alone.
func replace(path, text string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	_, err = tmp.WriteString(text)
	if serr := tmp.Sync(); err == nil {
		err = serr
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}
