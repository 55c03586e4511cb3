package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Violation is one import that breaks a rule.
type Violation struct {
	// Rule is the name of the broken rule.
	Rule string
	// From is the package that imports.
	From string
	// To is what it imports; empty if the package itself is out of place.
	To string
	// Why says what the rule protects.
	Why string
}

// String puts the violation on one line.
func (v Violation) String() string {
	if v.To == "" {
		return fmt.Sprintf("%s: %s: %s", v.Rule, v.From, v.Why)
	}
	return fmt.Sprintf("%s: %s imports %s: %s", v.Rule, v.From, v.To, v.Why)
}

// The names of the rules.
const (
	RuleServices  = "services"
	RuleLayers    = "layers"
	RuleRanks     = "ranks"
	RuleJetStream = "jetstream"
	RuleRedis     = "redis"
	RuleFixtures  = "fixtures"
)

// Check returns every violation in the graph, in the order of the packages.
func Check(pkgs []Package) []Violation {
	var all []Violation
	for _, p := range pkgs {
		if inside(p.Path, "pkg") && !ranked(unit(p.Path)) {
			all = append(all, Violation{RuleRanks, p.Path, "", "it has no rank; give it one in test/arch"})
		}
		for _, to := range p.Imports {
			all = append(all, checkEdge(p.Path, to, false)...)
		}
		for _, to := range p.TestImports {
			// A file of either kind that breaks a rule is one violation.
			if !slices.Contains(p.Imports, to) {
				all = append(all, checkEdge(p.Path, to, true)...)
			}
		}
	}
	return all
}

// edgeRule returns why from may not import to, or nothing.
type edgeRule struct {
	name  string
	check func(from, to string, fromTest bool) string
}

var edgeRules = []edgeRule{
	{RuleServices, checkServices},
	{RuleLayers, checkLayers},
	{RuleRanks, checkRanks},
	{RuleJetStream, jetStreamOwners.check},
	{RuleRedis, redisOwners.check},
	{RuleFixtures, checkFixtures},
}

func checkEdge(from, to string, fromTest bool) []Violation {
	var broken []Violation
	for _, r := range edgeRules {
		if why := r.check(from, to, fromTest); why != "" {
			broken = append(broken, Violation{r.name, from, to, why})
		}
	}
	return broken
}

// checkServices keeps services apart, in their tests too: they meet over gRPC and in
// streams. Standalone alone composes them; nothing imports standalone.
func checkServices(from, to string, _ bool) string {
	a, b := service(from), service(to)
	switch {
	case a == "" || b == "" || a == b, a == "standalone":
		return ""
	default:
		return "services talk to each other over gRPC and streams; only standalone composes them"
	}
}

// checkLayers lets imports go one way: services, then pkg, then proto. What lies below
// does not know what is built on it, in tests neither.
func checkLayers(from, to string, _ bool) string {
	layers := []string{"proto", "pkg", "services"}
	is := func(path string) int {
		return slices.IndexFunc(layers, func(l string) bool { return inside(path, l) })
	}
	if f, t := is(from), is(to); f >= 0 && t > f {
		return layers[f] + " does not know what is built on it"
	}
	return ""
}

// ranks places each unit of pkg: 0 is pure, 1 is platform, 2 is streams, 3 puts the parts
// of a process together. The packages below pkg/stream are of its rank.
var ranks = map[string]int{
	"ecmajson":    0,
	"eventschema": 0,
	"fault":       0,
	"httpsig":     0,
	"match":       0,
	"postrider":   0,
	"profile":     0,
	"retry":       0,
	"signature":   0,
	"conf":        1,
	"lag":         1,
	"natsconn":    1,
	"redisconn":   1,
	"rpc":         1,
	"seal":        1,
	"service":     1,
	"telemetry":   1,
	"verify":      1,
	"access":      2,
	"config":      2,
	"stream":      2,
	"process":     3,
}

// sameRank lists the imports inside a rank that are allowed. The words of the domain and
// its errors are for all, and every part of the platform checks its own settings.
func sameRank(from, to string) bool {
	switch to {
	case "postrider", "fault", "conf":
		return true
	case "ecmajson", "httpsig", "match", "retry", "signature":
		return from == "profile" // which is made of these
	case "telemetry":
		return from == "rpc" // which measures every call
	case "stream", "stream/bucket":
		return from == "config" || strings.HasPrefix(from, "stream/") // the owners share these
	default:
		return false
	}
}

// checkRanks lets a unit of pkg import lower ranks only. A test may also meet others of
// its own rank.
func checkRanks(from, to string, fromTest bool) string {
	if !inside(from, "pkg") || !inside(to, "pkg") {
		return ""
	}
	f, t := unit(from), unit(to)
	if f == t || !ranked(f) || !ranked(t) {
		return ""
	}
	switch rf, rt := rank(f), rank(t); {
	case rt < rf:
		return ""
	case rt == rf && (fromTest || sameRank(f, t)):
		return ""
	default:
		return fmt.Sprintf("rank %d imports lower ranks only, and this is of rank %d", rf, rt)
	}
}

// unit is the part of pkg that a package belongs to: the first folder, or for a stream
// the first two.
func unit(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "pkg/"), "/")
	if parts[0] == "stream" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func ranked(unit string) bool {
	_, ok := ranks[unit]
	return ok || strings.HasPrefix(unit, "stream/")
}

func rank(unit string) int {
	if strings.HasPrefix(unit, "stream/") {
		return ranks["stream"]
	}
	return ranks[unit]
}

// owners says in which folders alone some packages may be imported.
type owners struct {
	imports []string
	folders []string
	why     string
}

// The same bans stand in .golangci.yml, so that an editor shows them; a test plants
// violations of both.
var (
	jetStreamOwners = owners{
		imports: []string{"github.com/nats-io/nats.go/jetstream", "github.com/nats-io/nats-server"},
		folders: []string{"pkg/stream", "pkg/config", "pkg/natsconn", "services/standalone", "test"},
		why:     "streams and buckets have owners in pkg/stream and pkg/config",
	}
	redisOwners = owners{
		imports: []string{"github.com/redis/go-redis"},
		folders: []string{
			"pkg/redisconn", "services/ingest/internal/dedup", "services/scheduler/internal/retryset",
			"services/standalone", "test",
		},
		why: "keyspaces have owners in dedup and retryset",
	}
)

func (o owners) check(from, to string, _ bool) string {
	banned := func(prefix string) bool { return inside(to, prefix) }
	owner := func(folder string) bool { return inside(from, folder) }
	if slices.ContainsFunc(o.imports, banned) && !slices.ContainsFunc(o.folders, owner) {
		return o.why
	}
	return ""
}

// checkFixtures keeps what tests are made of out of binaries.
func checkFixtures(from, to string, fromTest bool) string {
	if inside(to, "test") && !inside(from, "test") && !fromTest {
		return "fixtures stay out of binaries"
	}
	return ""
}

// service is the service that a package belongs to, or nothing.
func service(path string) string {
	name, ok := strings.CutPrefix(path, "services/")
	if !ok {
		return ""
	}
	name, _, _ = strings.Cut(name, "/")
	return name
}

// inside reports whether path is folder or lies below it.
func inside(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
