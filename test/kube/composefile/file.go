package composefile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is what the runner knows of a compose file.
type File struct {
	Project  string              `json:"name"`
	Services map[string]*Service `json:"services"`
	Volumes  map[string]Volume   `json:"volumes"`
}

// Volume is one that the engine keeps.
type Volume struct {
	Name string `json:"name"`
}

// Service is one or more containers of an image.
type Service struct {
	Name        string                `json:"-"`
	Image       string                `json:"image"`
	Entrypoint  *struct{}             `json:"entrypoint"` // the image's
	Command     []string              `json:"command"`
	Environment map[string]string     `json:"environment"`
	ReadOnly    bool                  `json:"read_only"`
	CapDrop     []string              `json:"cap_drop"`
	SecurityOpt []string              `json:"security_opt"`
	Restart     string                `json:"restart"`
	StopGrace   Duration              `json:"stop_grace_period"`
	Health      *Health               `json:"healthcheck"`
	DependsOn   map[string]Dependency `json:"depends_on"`
	Deploy      Deploy                `json:"deploy"`
	Ports       []Port                `json:"ports"`
	Volumes     []Mount               `json:"volumes"`
	Profiles    []string              `json:"profiles"`
	Networks    map[string]*struct{}  `json:"networks"`
}

// Health is a program that is run in the container: exit code 0 says that it is well.
type Health struct {
	Test     []string `json:"test"`
	Interval Duration `json:"interval"`
	Timeout  Duration `json:"timeout"`
	Retries  int      `json:"retries"` // failures in a row that make it unhealthy
}

// Conditions of a dependency.
const (
	Healthy = "service_healthy"
	Started = "service_started"
)

// Dependency is what another service has to be before this one starts.
type Dependency struct {
	Condition string `json:"condition"`
	Required  bool   `json:"required"`
}

// Deploy says how many there are.
type Deploy struct {
	Replicas  int      `json:"replicas"`
	Resources struct{} `json:"resources"`
	Placement struct{} `json:"placement"`
}

// Port is one that can be reached from outside.
type Port struct {
	HostIP    string `json:"host_ip"`
	Published string `json:"published"` // 9090, or 9090-9091 for one of these each
	Target    uint16 `json:"target"`
	Protocol  string `json:"protocol"`
}

// Mount is a file or a folder in the container.
type Mount struct {
	Type     string   `json:"type"` // bind or volume
	Source   string   `json:"source"`
	Target   string   `json:"target"`
	ReadOnly bool     `json:"read_only"`
	Bind     struct{} `json:"bind"`
	Volume   struct{} `json:"volume"`
}

// Duration is written as 1m30s.
type Duration time.Duration

// UnmarshalJSON reads a duration.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}

// Replicas is how many containers the service has.
func (s *Service) Replicas() int { return max(1, s.Deploy.Replicas) }

// Range is the first and the last port that it is published at.
func (p Port) Range() (first, last uint16, err error) {
	from, to, ranged := strings.Cut(p.Published, "-")
	if !ranged {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 16)
	if err != nil {
		return 0, 0, err
	}
	b, err := strconv.ParseUint(to, 10, 16)
	return uint16(a), uint16(b), err
}

// refusals are forms of what is read that the runner would do otherwise than they are written.
func (s *Service) refusals() error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("service %s: "+format, append([]any{s.Name}, args...)...))
		}
	}
	rule(slices.Contains([]string{"", "no", "unless-stopped"}, s.Restart), "this does not know the restart policy %s", s.Restart)
	rule(len(s.CapDrop) == 0 || slices.Equal(s.CapDrop, []string{"ALL"}), "this drops all capabilities or none, not %v", s.CapDrop)
	rule(len(s.SecurityOpt) == 0 || slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}), "this does not know %v", s.SecurityOpt)
	_, ours := s.Networks["default"]
	rule(ours && len(s.Networks) == 1, "this has one network, the default one")
	if h := s.Health; h != nil {
		rule(len(h.Test) > 1 && h.Test[0] == "CMD", "this runs a check that is a program and its arguments, not %v", h.Test)
		rule(h.Interval > 0 && h.Timeout > 0 && h.Retries > 0, "this knows no defaults of a health check")
	}
	for name, d := range s.DependsOn {
		rule(d.Required && (d.Condition == Healthy || d.Condition == Started), "this cannot wait for %s to be %s", name, d.Condition)
	}
	for _, p := range s.Ports {
		first, last, err := p.Range()
		rule(err == nil && int(last)-int(first)+1 == s.Replicas(), "%s are not as many ports as replicas", p.Published)
		rule(p.Protocol == "tcp" && p.HostIP != "", "this publishes TCP at an address")
	}
	for _, m := range s.Volumes {
		rule(m.Type == "bind" || m.Type == "volume", "this does not know a volume that is a %s", m.Type)
	}
	return errors.Join(errs...)
}
