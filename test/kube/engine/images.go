package engine

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/postrider/postrider/test/kube/composefile"
	"github.com/postrider/postrider/test/kube/sandbox"
	"github.com/postrider/postrider/test/kube/stores"
)

// image is what this machine has in the place of an image.
type image struct {
	path    string // of the program, in the root
	before  []string
	after   []string
	env     []string
	uid     int
	gid     int
	mounts  []sandbox.Mount
	folders []string // that anybody may write to
	stop    syscall.Signal
}

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Missing are the images of programs that this machine does not have, and who stands in.
var Missing = map[string]string{
	"otel/opentelemetry-collector-contrib": "the test takes the spans itself",
	"prom/prometheus":                      "the test scrapes what the configuration names; test/alerts evaluates the rules",
	"grafana/grafana":                      "test/alerts holds the dashboards against the metrics",
}

// runs reports whether the machine has a program for the service.
func runs(s *composefile.Service) bool {
	_, missing := Missing[repository(s)]
	return !missing
}

func repository(s *composefile.Service) string {
	name, _, _ := strings.Cut(s.Image, ":")
	return name
}

//go:embed postgres.sh
var postgresEntrypoint string

// image finds the program of a service. What an image's entry point does before the program runs,
// such as a change of user, has been done here.
func (e *Engine) image(s *composefile.Service) (*image, error) {
	i := &image{stop: syscall.SIGTERM, env: []string{"PATH=" + systemPath}}
	name := repository(s)
	if service, ours := strings.CutPrefix(name, "postrider/"); ours {
		i.path, i.uid, i.gid = "/service", 65532, 65532
		i.mounts = []sandbox.Mount{{Source: filepath.Join(e.opts.Bin, service), Target: i.path, ReadOnly: true}}
		return i, nil
	}
	i.mounts = sandbox.Machine() // for what checks its health, too
	switch name {
	case "nats":
		i.path = "/nats-server"
		i.mounts = append(i.mounts, sandbox.Mount{Source: filepath.Join(e.opts.Root, "bin/nats-server"), Target: i.path, ReadOnly: true})
	case "redis":
		if len(s.Command) == 0 || s.Command[0] != "redis-server" {
			return nil, fmt.Errorf("service %s: this runs redis-server, not %v", s.Name, s.Command)
		}
		i.path, i.uid, i.gid = "/usr/bin/env", 999, 1000
		i.after = []string{"--protected-mode", "no"} // as it is built into the image
	case "postgres":
		return i, e.postgres(i)
	default:
		return nil, fmt.Errorf("service %s: there is no program for the image %s", s.Name, s.Image)
	}
	return i, nil
}

// postgres is an image whose entry point does more than to change its user.
func (e *Engine) postgres(i *image) error {
	bin, err := stores.PostgresBin()
	if err != nil {
		return err
	}
	entrypoint, passwd := filepath.Join(e.opts.Dir, "postgres.sh"), filepath.Join(e.opts.Dir, "passwd")
	for path, text := range map[string]string{entrypoint: postgresEntrypoint, passwd: "postgres:x:70:70::/var/lib/postgresql:/bin/sh\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	i.path, i.before, i.uid, i.gid, i.stop = "/bin/sh", []string{"/entrypoint.sh"}, 70, 70, syscall.SIGINT
	i.env = []string{"PATH=" + bin + ":" + systemPath, "PGDATA=/var/lib/postgresql/data", "LC_ALL=C"}
	i.mounts = append(i.mounts,
		sandbox.Mount{Source: entrypoint, Target: "/entrypoint.sh", ReadOnly: true},
		sandbox.Mount{Source: passwd, Target: "/etc/passwd", ReadOnly: true})
	i.folders = []string{"/tmp", "/dev/shm", "/var/run/postgresql"}
	return nil
}

// config is what a container of the service runs.
func (e *Engine) config(c *Container) (*sandbox.Config, error) {
	s, i := c.Service, c.image
	env := append(slices.Clone(i.env), "HOSTNAME="+c.Name)
	for key, value := range c.environment {
		env = append(env, key+"="+value)
	}
	mounts := slices.Clone(i.mounts)
	for n, folder := range i.folders {
		source := filepath.Join(e.opts.Dir, c.Name+"-"+strconv.Itoa(n))
		if err := writable(source, 0o777, i.uid, i.gid); err != nil {
			return nil, err
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: folder})
	}
	for _, m := range s.Volumes {
		source := m.Source
		if m.Type == "volume" {
			source = filepath.Join(e.opts.Dir, "volume-"+e.file.Volumes[m.Source].Name)
			if err := writable(source, 0o700, i.uid, i.gid); err != nil {
				return nil, err
			}
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return &sandbox.Config{
		Name: c.Name, Address: c.Address, Path: i.path, Args: slices.Concat(i.before, c.command, i.after), Env: env,
		UID: i.uid, GID: i.gid, Mounts: mounts, ReadOnlyRoot: s.ReadOnly, NoNewPrivileges: len(s.SecurityOpt) > 0,
		// An engine leaves some to those that do not drop them. None of these programs needs one.
		DropCapabilities: true,
		Resolver:         "nameserver " + sandbox.DNS.String() + "\noptions ndots:0\n",
		Log:              filepath.Join(e.opts.Dir, c.Name+".log"),
	}, nil
}

// writable makes a folder that the user owns.
func writable(path string, mode os.FileMode, uid, gid int) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}
