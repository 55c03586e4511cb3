// Command monitoring writes the rules of deploy/prometheus as an object of the Prometheus operator,
// and copies the dashboards of deploy/grafana to where kustomize reads them: it reads nothing above
// its own folder. The check of the manifests holds both against their sources.
//
//	go run ./cmd/monitoring FOLDER
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

const head = "# Written by \"make k8s/monitoring\" from deploy/prometheus/rules; do not edit.\n"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: monitoring FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(folder string) error {
	sources, err := filepath.Glob("prometheus/rules/*.yml")
	if err != nil {
		return err
	}
	var groups []any
	for _, path := range sources {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var file struct {
			Groups []any `json:"groups"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		groups = append(groups, file.Groups...)
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
		"metadata": map[string]any{"name": "postrider"}, "spec": map[string]any{"groups": groups},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "rules.yaml"), append([]byte(head), text...), 0o644); err != nil { //nolint:gosec // for everyone
		return err
	}
	boards, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil {
		return err
	}
	for _, path := range boards {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, "dashboards", filepath.Base(path)), text, 0o644) //nolint:gosec // for everyone
		}
		if err != nil {
			return err
		}
	}
	return nil
}
