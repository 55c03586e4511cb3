// Command schemas writes the JSON Schemas that manifests are checked against: those of the kinds
// below, made from the API server's own OpenAPI document and from the operators' CRDs, all of which
// come from their Go modules at the versions here. Run it to move to newer ones:
//
//	go run ./cmd/schemas > check/testdata/schemas.json
//
// With -crds it writes the CRDs themselves into a folder instead, for an API server.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const kubernetes = "k8s.io/kubernetes@v1.36.3"

// kinds of Kubernetes itself, by the names that its document has for them.
var kinds = []string{
	"core.v1.Namespace", "core.v1.ConfigMap", "core.v1.Service", "core.v1.ServiceAccount", "core.v1.PersistentVolumeClaim", "apps.v1.Deployment",
	"apps.v1.StatefulSet",
	"policy.v1.PodDisruptionBudget", "autoscaling.v2.HorizontalPodAutoscaler", "networking.v1.NetworkPolicy", "networking.v1.Ingress",
	"scheduling.v1.PriorityClass",
}

// resources are the files of the operators' CRDs, by module.
var resources = map[string][]string{
	"github.com/kedacore/keda/v2@v2.21.0":                        {"config/crd/bases/keda.sh_scaledobjects.yaml"},
	"sigs.k8s.io/gateway-api@v1.4.0":                             {"config/crd/standard/gateway.networking.k8s.io_httproutes.yaml", "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml"},
	"github.com/external-secrets/external-secrets@v1.3.2":        {"config/crds/bases/external-secrets.io_externalsecrets.yaml"},
	"github.com/prometheus-operator/prometheus-operator@v0.85.0": {"example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"},
	"github.com/cert-manager/cert-manager@v1.21.2":               {"deploy/crds/cert-manager.io_certificates.yaml"},
}

type object = map[string]any

func main() {
	crds := flag.String("crds", "", "folder to write the CRDs into")
	flag.Parse()
	if *crds != "" {
		os.Exit(copies(context.Background(), *crds, os.Stderr))
	}
	os.Exit(run(context.Background(), os.Stdout, os.Stderr))
}

// copies writes the CRDs into a folder.
func copies(ctx context.Context, folder string, stderr io.Writer) int {
	err := os.MkdirAll(folder, 0o750)
	for name, files := range resources {
		for _, file := range files {
			if err == nil {
				err = duplicate(ctx, folder, name, file)
			}
		}
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func duplicate(ctx context.Context, folder, from, file string) error {
	dir, err := module(ctx, from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // a file of a module named above
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, filepath.Base(file)), text, 0o600)
}

func run(ctx context.Context, stdout, stderr io.Writer) int {
	out := object{"definitions": object{}, "kinds": object{}}
	err := builtin(ctx, out)
	for module, files := range resources {
		for _, file := range files {
			if err == nil {
				err = custom(ctx, out, module, file)
			}
		}
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 1
	}
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(out); err != nil {
		return 1
	}
	return 0
}

// module is where a module's files are; go checks them against the checksum database.
func module(ctx context.Context, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", name)
	cmd.Dir = os.TempDir() // outside of every module
	text, err := cmd.Output()
	var found struct{ Dir, Error string }
	if json.Unmarshal(text, &found) != nil || found.Dir == "" {
		return "", fmt.Errorf("download %s: %w %s", name, err, found.Error)
	}
	return found.Dir, nil
}

// builtin adds the kinds of Kubernetes with everything that they refer to.
func builtin(ctx context.Context, out object) error {
	dir, err := module(ctx, kubernetes)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "api/openapi-spec/swagger.json"))
	if err != nil {
		return err
	}
	var document struct {
		Definitions map[string]object `json:"definitions"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return err
	}
	definitions, _ := out["definitions"].(object)
	var add func(name string)
	add = func(name string) {
		if _, done := definitions[name]; done {
			return
		}
		definition := document.Definitions[name]
		cleaned := strict(definition)
		definitions[name] = cleaned
		text, _ := json.Marshal(cleaned) // what was read as JSON can be written as such
		for _, part := range bytes.Split(text, []byte(`"#/definitions/`))[1:] {
			add(string(part[:bytes.IndexByte(part, '"')]))
		}
	}
	table, _ := out["kinds"].(object)
	for _, name := range kinds {
		full := "io.k8s.api." + name
		add(full)
		parts := strings.Split(name, ".")
		group := map[string]string{"core": "", "networking": "networking.k8s.io/", "scheduling": "scheduling.k8s.io/"}
		prefix, special := group[parts[0]]
		if !special {
			prefix = parts[0] + "/"
		}
		table[prefix+parts[1]+"/"+parts[2]] = object{"$ref": "#/definitions/" + full}
	}
	return nil
}

// custom adds a kind that a CRD defines.
func custom(ctx context.Context, out object, from, file string) error {
	dir, err := module(ctx, from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // a file of a module named above
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Served bool
				Schema struct {
					OpenAPIV3Schema object `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	table, _ := out["kinds"].(object)
	for _, v := range crd.Spec.Versions {
		if v.Served {
			schema := strict(v.Schema.OpenAPIV3Schema)
			properties, _ := schema["properties"].(object)
			properties["metadata"] = object{"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
			table[crd.Spec.Group+"/"+v.Name+"/"+crd.Spec.Names.Kind] = schema
		}
	}
	return nil
}

// strict is a schema without its prose that takes no field it does not name, and with numbers where
// the API takes them for texts.
func strict(in object) object {
	out := object{}
	for key, value := range in {
		switch key {
		case "description", "example", "default", "x-kubernetes-validations", "externalDocs":
			continue
		case "format":
			continue
		case "properties":
			fields := object{}
			for name, field := range value.(object) { //nolint:forcetypeassert // so it is in every schema
				fields[name] = strict(field.(object)) //nolint:forcetypeassert // as said
			}
			out[key] = fields
			continue
		}
		if strings.HasPrefix(key, "x-") {
			continue
		}
		out[key] = inside(value)
	}
	_, named := in["properties"]
	_, more := in["additionalProperties"]
	if named && !more && in["x-kubernetes-preserve-unknown-fields"] != true {
		out["additionalProperties"] = false
	}
	text, _ := in["description"].(string)
	if in["format"] == "int-or-string" || in["x-kubernetes-int-or-string"] == true || strings.HasPrefix(text, "Quantity is a fixed-point") {
		return object{"type": []any{"string", "integer", "number"}}
	}
	return out
}

func inside(value any) any {
	switch v := value.(type) {
	case object:
		return strict(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = inside(v[i])
		}
		return out
	}
	return value
}
