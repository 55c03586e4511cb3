package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postrider/postrider/services/standalone"
)

// globals are the flags that every command has.
type globals struct {
	server       string
	ingestServer string
	key          string
	account      string
	output       string
	timeout      time.Duration
	tlsCA        string
	tlsCert      string
	tlsKey       string
	tlsName      string
}

// The forms of output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

const defaultServer = "127.0.0.1:9090"

func (p *program) addGlobals(root *cobra.Command) {
	g, f := &p.globals, root.PersistentFlags()
	p.stringVar(f, &g.server, "server", "POSTRIDER_SERVER", defaultServer, "host:port of the management API")
	p.stringVar(f, &g.ingestServer, "ingest-server", "POSTRIDER_INGEST_SERVER", "", "host:port of the event API; default: that of --server")
	p.stringVar(f, &g.key, "key", "POSTRIDER_KEY", "", "credential; file:/path reads a file")
	p.stringVar(f, &g.account, "account", "POSTRIDER_ACCOUNT", "", "account to work in, with an admin key")
	f.StringVarP(&g.output, "output", "o", outputTable, "form of the output: table or json")
	f.DurationVar(&g.timeout, "timeout", 30*time.Second, "time limit for each call")
	p.stringVar(f, &g.tlsCA, "tls-ca-file", "POSTRIDER_TLS_CA_FILE", "", "PEM file of the CAs of the server's certificate; without it calls are in clear text")
	p.stringVar(f, &g.tlsCert, "tls-cert-file", "POSTRIDER_TLS_CERT_FILE", "", "PEM file of the client's certificate")
	p.stringVar(f, &g.tlsKey, "tls-key-file", "POSTRIDER_TLS_KEY_FILE", "", "PEM file of the client's private key")
	p.stringVar(f, &g.tlsName, "tls-server-name", "POSTRIDER_TLS_SERVER_NAME", "", "name that the server's certificate must have")
}

// stringVar defines a flag whose value comes from the environment when it is not given. The help
// shows the default, not what the environment holds: that may be a secret.
func (p *program) stringVar(f *pflag.FlagSet, to *string, name, env, def, help string) {
	if def != "" {
		help += fmt.Sprintf(" (default %q)", def)
	}
	f.StringVar(to, name, "", help+" [$"+env+"]")
	*to = def
	if value, ok := p.lookup(env); ok && value != "" {
		*to = value
	}
}

func (g *globals) check() error {
	if g.output != outputTable && g.output != outputJSON {
		return usagef("--output must be table or json, not %q", g.output)
	}
	if g.timeout <= 0 {
		return usagef("--timeout must be positive")
	}
	return nil
}

// credential is the key that calls are made with: the one that was given, or, for servers on this
// machine only, the admin key that the one process keeps. Another machine never gets that one.
func (p *program) credential() (string, error) {
	g := &p.globals
	if path, ok := strings.CutPrefix(g.key, "file:"); ok {
		text, err := os.ReadFile(path) //nolint:gosec // the user names the file
		if err != nil {
			return "", usagef("--key: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if g.key != "" {
		return g.key, nil
	}
	if !isLocal(g.server) || !isLocal(p.ingestTarget()) {
		return "", nil
	}
	dir := standalone.DefaultDataDir
	if named, ok := p.lookup("POSTRIDER_DATA_DIR"); ok && named != "" {
		dir = named
	}
	text, err := os.ReadFile(filepath.Join(dir, standalone.AdminKeyFile)) //nolint:gosec // the user names the folder
	if err != nil {
		return "", nil //nolint:nilerr // there is none, so calls are made without; the server says what is missing
	}
	return strings.TrimSpace(string(text)), nil
}

func (p *program) ingestTarget() string {
	if p.globals.ingestServer != "" {
		return p.globals.ingestServer
	}
	return p.globals.server
}

// isLocal reports whether a target can only be this machine.
func isLocal(target string) bool {
	if strings.HasPrefix(target, "unix:") {
		return true
	}
	target = strings.TrimPrefix(target, "dns:///")
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
