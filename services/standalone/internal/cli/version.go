package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/pkg/process"
)

func (p *program) versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Show the version of this program", Args: cobra.NoArgs}
	c.RunE = p.local(func(context.Context, []string) error {
		if p.globals.output == outputJSON {
			return json.NewEncoder(p.Out).Encode(map[string]string{
				"version": process.Version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
			})
		}
		_, err := fmt.Fprintf(p.Out, "postrider %s (%s, %s/%s)\n", process.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	})
	return c
}
