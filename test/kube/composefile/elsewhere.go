package composefile

import (
	"fmt"
	"slices"
)

// Elsewhere is everything in the file that the runner does not do, and why. Lists have [] in their
// paths.
var Elsewhere = map[string]string{
	"networks":                "there is one network here, and nothing is set on it",
	"services.*.build":        "make kube/binaries builds what the images hold; deploy/check holds the file against the Dockerfile, and make check/images the images",
	"services.*.ports[].mode": "for Swarm",
}

// Table is what is left to an engine, a line each.
func Table() []string {
	var out []string
	for path, why := range Elsewhere {
		out = append(out, fmt.Sprintf("%-32s %s", path, why))
	}
	slices.Sort(out)
	return out
}
