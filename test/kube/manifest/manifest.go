// Package manifest reads rendered manifests for a runner that has no cluster. What is in the types
// below is what the runner does as it is written; elsewhere.go lists what only a cluster does, with
// the reason. A field in neither is a fault, so that nothing in a manifest is passed over in silence.
package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Meta names an object.
type Meta struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Selector selects pods.
type Selector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

// Matches reports whether the labels are those that are selected.
func (s Selector) Matches(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// Deployment is replicas of a pod, and how they are replaced.
type Deployment struct {
	Metadata Meta           `json:"metadata"`
	Spec     DeploymentSpec `json:"spec"`
}

// DeploymentSpec says what a deployment runs.
type DeploymentSpec struct {
	Selector        Selector    `json:"selector"`
	MinReadySeconds int         `json:"minReadySeconds"`
	Strategy        Strategy    `json:"strategy"`
	Template        PodTemplate `json:"template"`
}

// Strategy is how pods are replaced.
type Strategy struct {
	Type          string `json:"type"`
	RollingUpdate struct {
		MaxUnavailable Share `json:"maxUnavailable"`
		MaxSurge       Share `json:"maxSurge"`
	} `json:"rollingUpdate"`
}

// PodTemplate is a pod without a name.
type PodTemplate struct {
	Metadata struct {
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec PodSpec `json:"spec"`
}

// PodSpec is what runs in a pod, as whom, and for how long it may stop.
type PodSpec struct {
	ServiceAccountName            string      `json:"serviceAccountName"`
	AutomountServiceAccountToken  *bool       `json:"automountServiceAccountToken"`
	EnableServiceLinks            *bool       `json:"enableServiceLinks"`
	TerminationGracePeriodSeconds int         `json:"terminationGracePeriodSeconds"`
	SecurityContext               PodSecurity `json:"securityContext"`
	Containers                    []Container `json:"containers"`
	Volumes                       []Volume    `json:"volumes"`
}

// PodSecurity is as whom a pod runs.
type PodSecurity struct {
	RunAsNonRoot bool `json:"runAsNonRoot"`
	RunAsUser    int  `json:"runAsUser"`
	RunAsGroup   int  `json:"runAsGroup"`
	FSGroup      int  `json:"fsGroup"`
}

// Container is a process and its surroundings.
type Container struct {
	Name            string            `json:"name"`
	Image           string            `json:"image"`
	Env             []EnvVar          `json:"env"`
	EnvFrom         []EnvFrom         `json:"envFrom"`
	Ports           []Port            `json:"ports"`
	Resources       Resources         `json:"resources"`
	SecurityContext ContainerSecurity `json:"securityContext"`
	StartupProbe    *Probe            `json:"startupProbe"`
	ReadinessProbe  *Probe            `json:"readinessProbe"`
	LivenessProbe   *Probe            `json:"livenessProbe"`
	Lifecycle       Lifecycle         `json:"lifecycle"`
	VolumeMounts    []VolumeMount     `json:"volumeMounts"`
}

// ContainerSecurity is what a process may not.
type ContainerSecurity struct {
	AllowPrivilegeEscalation *bool `json:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   bool  `json:"readOnlyRootFilesystem"`
	Capabilities             struct {
		Drop []string `json:"drop"`
	} `json:"capabilities"`
}

// Resources are limits of which the process is told and below which it must stay.
type Resources struct {
	Limits struct {
		Memory Quantity `json:"memory"`
	} `json:"limits"`
}

// Lifecycle is what happens before the process is told to stop.
type Lifecycle struct {
	PreStop struct {
		Sleep struct {
			Seconds int `json:"seconds"`
		} `json:"sleep"`
	} `json:"preStop"`
}

// EnvVar is a variable of the environment.
type EnvVar struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	ValueFrom *struct {
		FieldRef *struct {
			FieldPath string `json:"fieldPath"`
		} `json:"fieldRef"`
	} `json:"valueFrom"`
}

// EnvFrom is a set of variables.
type EnvFrom struct {
	ConfigMapRef *Ref `json:"configMapRef"`
}

// Ref is the name of another object.
type Ref struct {
	Name string `json:"name"`
}

// Port is a named port of a container.
type Port struct {
	Name          string `json:"name"`
	ContainerPort int    `json:"containerPort"`
}

// Probe asks grpc.health.v1.
type Probe struct {
	GRPC struct {
		Port    int    `json:"port"`
		Service string `json:"service"`
	} `json:"grpc"`
	PeriodSeconds    int `json:"periodSeconds"`
	TimeoutSeconds   int `json:"timeoutSeconds"`
	FailureThreshold int `json:"failureThreshold"`
}

// VolumeMount is where a volume is.
type VolumeMount struct {
	Name      string `json:"name"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

// Volume is files out of Secrets and ConfigMaps.
type Volume struct {
	Name   string `json:"name"`
	Secret *struct {
		SecretName  string `json:"secretName"`
		DefaultMode int    `json:"defaultMode"`
	} `json:"secret"`
	ConfigMap *struct {
		Name        string `json:"name"`
		DefaultMode int    `json:"defaultMode"`
	} `json:"configMap"`
	Projected *struct {
		DefaultMode int `json:"defaultMode"`
		Sources     []struct {
			Secret *struct {
				Name  string `json:"name"`
				Items []Item `json:"items"`
			} `json:"secret"`
		} `json:"sources"`
	} `json:"projected"`
}

// Item is a key as a file.
type Item struct {
	Key  string `json:"key"`
	Path string `json:"path"`
}

// ConfigMap is variables or files.
type ConfigMap struct {
	Metadata Meta              `json:"metadata"`
	Data     map[string]string `json:"data"`
}

// Service is a name for pods that are ready.
type Service struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		ClusterIP string            `json:"clusterIP"`
		Selector  map[string]string `json:"selector"`
		Ports     []struct {
			Name       string `json:"name"`
			Port       int    `json:"port"`
			TargetPort string `json:"targetPort"`
		} `json:"ports"`
	} `json:"spec"`
}

// Certificate is a Secret that cert-manager fills.
type Certificate struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		SecretName string   `json:"secretName"`
		DNSNames   []string `json:"dnsNames"`
		Duration   string   `json:"duration"`
		Usages     []string `json:"usages"`
		PrivateKey struct {
			Algorithm string `json:"algorithm"`
			Size      int    `json:"size"`
		} `json:"privateKey"`
		IssuerRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"issuerRef"`
	} `json:"spec"`
}

// ExternalSecret is a Secret out of a store.
type ExternalSecret struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		SecretStoreRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"secretStoreRef"`
		Target struct {
			Name string `json:"name"`
		} `json:"target"`
		Data []struct {
			SecretKey string `json:"secretKey"`
			RemoteRef struct {
				Key string `json:"key"`
			} `json:"remoteRef"`
		} `json:"data"`
	} `json:"spec"`
}

// PodMonitor says what is scraped.
type PodMonitor struct {
	Metadata Meta `json:"metadata"`
	Spec     struct {
		Selector            Selector   `json:"selector"`
		PodMetricsEndpoints []Endpoint `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// Endpoint is one page of metrics.
type Endpoint struct {
	Port          string       `json:"port"`
	Path          string       `json:"path"`
	ScrapeTimeout string       `json:"scrapeTimeout"`
	Relabelings   []Relabeling `json:"relabelings"`
}

// Relabeling gives what is scraped a label: a fixed one, or what is known of the pod.
type Relabeling struct {
	SourceLabels []string `json:"sourceLabels"`
	TargetLabel  string   `json:"targetLabel"`
	Replacement  string   `json:"replacement"`
}

// Set is the objects of one overlay that the runner works on.
type Set struct {
	Deployments     map[string]*Deployment
	ConfigMaps      map[string]*ConfigMap
	Services        map[string]*Service
	Certificates    map[string]*Certificate
	ExternalSecrets map[string]*ExternalSecret
	PodMonitors     map[string]*PodMonitor
}

// Load reads the objects, and returns every field that is neither honoured nor left to a cluster.
func Load(objects []map[string]any) (*Set, error) {
	s := &Set{
		Deployments: map[string]*Deployment{}, ConfigMaps: map[string]*ConfigMap{}, Services: map[string]*Service{},
		Certificates: map[string]*Certificate{}, ExternalSecrets: map[string]*ExternalSecret{}, PodMonitors: map[string]*PodMonitor{},
	}
	faults := newCoverage()
	for _, o := range objects {
		faults.object(o)
		if err := s.add(o); err != nil {
			return nil, err
		}
	}
	if list := faults.list(); len(list) > 0 {
		errs := make([]error, len(list))
		for i, text := range list {
			errs[i] = errors.New(text)
		}
		return nil, errors.Join(errs...)
	}
	return s, nil
}

func (s *Set) add(o map[string]any) error {
	kind, name := names(o)
	var err error
	switch kind {
	case "Deployment":
		s.Deployments[name], err = decode[Deployment](o)
	case "ConfigMap":
		s.ConfigMaps[name], err = decode[ConfigMap](o)
	case "Service":
		s.Services[name], err = decode[Service](o)
	case "Certificate":
		s.Certificates[name], err = decode[Certificate](o)
	case "ExternalSecret":
		s.ExternalSecrets[name], err = decode[ExternalSecret](o)
	case "PodMonitor":
		s.PodMonitors[name], err = decode[PodMonitor](o)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	return nil
}

func names(o map[string]any) (kind, name string) {
	kind, _ = o["kind"].(string)
	meta, _ := o["metadata"].(map[string]any)
	name, _ = meta["name"].(string)
	return kind, name
}

func decode[T any](o map[string]any) (*T, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	out := new(T)
	return out, json.Unmarshal(text, out)
}

// Port is the number of a container's port.
func (c *Container) Port(name string) (int, error) {
	i := slices.IndexFunc(c.Ports, func(p Port) bool { return p.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("container %s has no port %s", c.Name, name)
	}
	return c.Ports[i].ContainerPort, nil
}
