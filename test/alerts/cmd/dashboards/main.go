// Command dashboards writes the dashboards into a folder.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/postrider/postrider/test/alerts"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards FOLDER")
		os.Exit(2)
	}
	for _, d := range alerts.Dashboards() {
		data, err := d.JSON()
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], d.Name+".json"), data, 0o644) //nolint:gosec // for everyone
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
