package check

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Context is what manifests are held against.
type Context struct {
	Schemas Schemas
	// Options are the environment variables that each service knows, from docs/configuration.md.
	Options map[string][]string
	// Secrets that somebody else makes, from docs/kubernetes.md.
	Secrets []string
	// Namespace that everything is in.
	Namespace string
	// Scaled says that KEDA scales the consumers.
	Scaled bool
}

// set is the objects of one overlay while its rules are checked.
type set struct {
	Context
	objects []Object
	out     []string
}

func (s *set) rule(ok bool, o Object, format string, args ...any) {
	if !ok {
		s.out = append(s.out, o.id()+": "+fmt.Sprintf(format, args...))
	}
}

func (s *set) find(kind, name string) Object {
	for _, o := range s.objects {
		if o.kind() == kind && o.name() == name {
			return o
		}
	}
	return nil
}

// Faults are all that is wrong with the objects of an overlay.
func Faults(c Context, objects []Object) []string {
	s := &set{Context: c, objects: objects}
	for _, o := range objects {
		s.out = append(s.out, s.Schemas.faults(o)...)
		if o.kind() != "Namespace" && o.kind() != "PriorityClass" {
			s.rule(text(o, "metadata", "namespace") == c.Namespace, o, "is not in the namespace %s", c.Namespace)
		}
		if o.workload() {
			s.security(o)
			s.references(o)
			s.rule(matches(fields(o, "spec", "selector"), o.labels()), o, "its selector does not match its pods")
		}
		if o.ours() {
			s.probes(o)
			s.drain(o)
			s.environment(o)
			s.resources(o)
		}
		switch o.kind() {
		case "Service":
			s.service(o)
		case "PodDisruptionBudget":
			s.selects(o, fields(o, "spec", "selector"))
			s.rule(get(o, "spec", "maxUnavailable") != nil && get(o, "spec", "minAvailable") == nil, o, "states not maxUnavailable alone")
		case "HorizontalPodAutoscaler", "ScaledObject":
			s.scaler(o)
		case "PodMonitor":
			s.selects(o, fields(o, "spec", "selector"))
		case "NetworkPolicy":
			s.policy(o)
		}
	}
	s.targets()
	return s.out
}

// matches reports whether a label selector selects labels.
func matches(selector, labels map[string]any) bool {
	for key, value := range fields(selector, "matchLabels") {
		if labels[key] != value {
			return false
		}
	}
	for _, e := range items(selector, "matchExpressions") {
		in := slices.Contains(items(e, "values"), labels[text(e, "key")])
		if text(e, "operator") == "In" != in {
			return false
		}
	}
	return true
}

func (s *set) selected(selector map[string]any) []Object {
	var out []Object
	for _, o := range s.objects {
		if o.workload() && matches(selector, o.labels()) {
			out = append(out, o)
		}
	}
	return out
}

func (s *set) selects(o Object, selector map[string]any) []Object {
	found := s.selected(selector)
	s.rule(len(found) > 0, o, "selects no pod")
	return found
}

var pinned = regexp.MustCompile(`(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})$`)

// security is the Pod Security Standard "restricted", and what we ask beside it.
func (s *set) security(o Object) {
	pod, c := o.pod(), o.container()
	s.rule(get(pod, "securityContext", "runAsNonRoot") == true, o, "may run as root")
	s.rule(number(pod, "securityContext", "runAsUser") > 0, o, "names no user by number")
	s.rule(text(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault", o, "has no seccomp profile")
	s.rule(get(c, "securityContext", "allowPrivilegeEscalation") == false, o, "may escalate privileges")
	s.rule(get(c, "securityContext", "readOnlyRootFilesystem") == true, o, "may write to its root")
	s.rule(slices.Equal(items(c, "securityContext", "capabilities", "drop"), []any{"ALL"}), o, "keeps capabilities")
	for _, field := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		s.rule(get(pod, field) == nil, o, "shares the host's %s", field)
	}
	s.rule(get(pod, "automountServiceAccountToken") == false, o, "mounts a token")
	s.rule(get(pod, "enableServiceLinks") == false, o, "gets the environment of services")
	image := text(c, "image")
	s.rule(pinned.MatchString(image) && !strings.HasSuffix(image, ":latest"), o, "image %s has no version", image)
	for _, v := range items(pod, "volumes") {
		s.rule(get(v, "hostPath") == nil, o, "mounts a path of the host")
	}
}

// references are the names that pods use.
func (s *set) references(o Object) {
	pod, c := o.pod(), o.container()
	if o.ours() {
		account := s.find("ServiceAccount", text(pod, "serviceAccountName"))
		s.rule(account != nil && get(account, "automountServiceAccountToken") == false, o, "has no service account without a token")
	}
	if class := text(pod, "priorityClassName"); class != "" {
		s.rule(s.find("PriorityClass", class) != nil, o, "priority class %s is not there", class)
	}
	config := func(name string) { s.rule(s.find("ConfigMap", name) != nil, o, "config map %s is not there", name) }
	for _, e := range items(c, "envFrom") {
		config(text(e, "configMapRef", "name"))
	}
	volumes := map[string]bool{}
	for _, claim := range items(o, "spec", "volumeClaimTemplates") {
		volumes[text(claim, "metadata", "name")] = true
	}
	for _, v := range items(pod, "volumes") {
		volumes[text(v, "name")] = true
		if name := text(v, "configMap", "name"); name != "" {
			config(name)
		}
		s.secret(o, text(v, "secret", "secretName"))
		for _, source := range items(v, "projected", "sources") {
			s.secret(o, text(source, "secret", "name"))
		}
	}
	for _, m := range items(c, "volumeMounts") {
		s.rule(volumes[text(m, "name")], o, "mounts %s, which is no volume", text(m, "name"))
	}
}

func (s *set) secret(o Object, name string) {
	if name == "" || slices.Contains(s.Secrets, name) {
		return
	}
	for _, other := range s.objects {
		if other.kind() == "Certificate" && text(other, "spec", "secretName") == name ||
			other.kind() == "ExternalSecret" && text(other, "spec", "target", "name") == name {
			return
		}
	}
	s.rule(false, o, "nobody makes the secret %s, and docs/kubernetes.md does not name it", name)
}

func (s *set) probes(o Object) {
	c := o.container()
	for _, kind := range []string{"startup", "readiness", "liveness"} {
		grpc := get(c, kind+"Probe", "grpc")
		s.rule(text(grpc, "service") == kind, o, "its %s probe asks for %q", kind, text(grpc, "service"))
		s.rule(s.port(o, number(grpc, "port")) == "health", o, "its %s probe is not at the health port", kind)
	}
}

// port is the name of a container's port.
func (*set) port(o Object, number float64) string {
	for _, p := range items(o.container(), "ports") {
		if get(p, "containerPort") == number {
			return text(p, "name")
		}
	}
	return ""
}

func (*set) hasPort(o Object, name string) bool {
	return slices.ContainsFunc(items(o.container(), "ports"), func(p any) bool { return text(p, "name") == name })
}

// attempt is how long an attempt lasts at most (dispatcher-attempt-timeout), and settle what it
// takes to store its outcome.
const (
	attempt = 20 * time.Second
	settle  = 10 * time.Second
	// leave is what comes after the stop: the connection to NATS ends (5 s at most), and the last
	// spans are sent (3 s).
	leave = 8 * time.Second
)

// drain is whether a stop has the time that it takes.
func (s *set) drain(o Object) {
	grace := time.Duration(number(o.pod(), "terminationGracePeriodSeconds")) * time.Second
	sleep := time.Duration(number(o.container(), "lifecycle", "preStop", "sleep", "seconds")) * time.Second
	stop, err := time.ParseDuration(s.env(o)["POSTRIDER_STOP_GRACE"])
	s.rule(err == nil && sleep+stop+leave < grace, o, "is killed after %s, before its stop of %s + %s + %s has ended", grace, sleep, stop, leave)
	switch o.name() {
	case "dispatcher":
		s.rule(stop >= attempt+settle, o, "its stop of %s is shorter than an attempt", stop)
	case "ingest", "api":
		s.rule(sleep > 0, o, "stops listening while load balancers still send")
	}
}

// env is the environment of a service, with the config maps.
func (s *set) env(o Object) map[string]string {
	out := map[string]string{}
	for _, from := range items(o.container(), "envFrom") {
		if m := s.find("ConfigMap", text(from, "configMapRef", "name")); m != nil {
			for name, value := range fields(m, "data") {
				out[name], _ = value.(string)
			}
		}
	}
	for _, e := range items(o.container(), "env") {
		out[text(e, "name")] = text(e, "value")
	}
	return out
}

var reference = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

func (s *set) environment(o Object) {
	known := s.Options[o.name()]
	s.rule(len(known) > 0, o, "docs/configuration.md has no options of %s", o.name())
	anybody := []string{}
	for _, options := range s.Options {
		anybody = append(anybody, options...)
	}
	var before []string
	for _, e := range items(o.container(), "env") {
		name := text(e, "name")
		s.rule(slices.Contains(known, name), o, "%s is no option of %s", name, o.name())
		for _, ref := range reference.FindAllStringSubmatch(text(e, "value"), -1) {
			s.rule(slices.Contains(before, ref[1]), o, "%s refers to %s, which is not before it", name, ref[1])
		}
		before = append(before, name)
	}
	for name, value := range s.env(o) {
		s.rule(slices.Contains(anybody, name), o, "%s is no option of any service", name)
		path, isFile := strings.CutPrefix(value, "file:")
		if (isFile || strings.HasSuffix(name, "_FILE") && value != "") && slices.Contains(known, name) {
			s.rule(s.mounted(o, path), o, "%s is %s, where nothing is mounted", name, value)
		}
	}
}

// mounted reports whether a file is in a volume, and in a volume of secrets among its files.
func (*set) mounted(o Object, path string) bool {
	for _, m := range items(o.container(), "volumeMounts") {
		rest, inside := strings.CutPrefix(path, text(m, "mountPath")+"/")
		if !inside {
			continue
		}
		for _, v := range items(o.pod(), "volumes") {
			sources := items(v, "projected", "sources")
			if text(v, "name") == text(m, "name") && len(sources) > 0 {
				return slices.ContainsFunc(sources, func(src any) bool {
					return slices.ContainsFunc(items(src, "secret", "items"), func(i any) bool { return text(i, "path") == rest })
				})
			}
		}
		return true
	}
	return false
}

func (s *set) resources(o Object) {
	r := get(o.container(), "resources")
	s.rule(text(r, "requests", "cpu") != "" && text(r, "requests", "memory") != "", o, "requests no CPU or memory")
	s.rule(text(r, "limits", "memory") == text(r, "requests", "memory"), o, "its memory limit is not its request")
	s.rule(get(r, "limits", "cpu") == nil, o, "has a CPU limit, which throttles it")
	s.rule(len(items(o.pod(), "topologySpreadConstraints")) >= 2, o, "is not spread over zones and hosts")
}

func (s *set) service(o Object) {
	found := s.selects(o, map[string]any{"matchLabels": get(o, "spec", "selector")})
	for _, p := range items(o, "spec", "ports") {
		for _, w := range found {
			s.rule(s.hasPort(w, text(p, "targetPort")), o, "%s has no port %s", w.id(), text(p, "targetPort"))
		}
	}
}

// targets are the services that clients are sent to: headless, at the port that they name.
func (s *set) targets() {
	for _, o := range s.objects {
		if !o.ours() {
			continue
		}
		for name, value := range s.env(o) {
			if !strings.HasSuffix(name, "_TARGET") {
				continue
			}
			host, port, _ := strings.Cut(strings.TrimPrefix(value, "dns:///"), ":")
			service := s.find("Service", host)
			s.rule(service != nil && text(service, "spec", "clusterIP") == "None" &&
				slices.ContainsFunc(items(service, "spec", "ports"), func(p any) bool { return fmt.Sprint(get(p, "port")) == port }),
				o, "%s is %s, which is no headless service", name, value)
		}
	}
}

// inFlight is what one dispatcher or router may have in flight; KEDA counts that as lag.
const inFlight = 1024

func (s *set) scaler(o Object) {
	kind := text(o, "spec", "scaleTargetRef", "kind")
	if kind == "" {
		kind = "Deployment"
	}
	target := s.find(kind, text(o, "spec", "scaleTargetRef", "name"))
	if target == nil {
		s.rule(false, o, "scales nothing")
		return
	}
	s.rule(get(target, "spec", "replicas") == nil, o, "%s states replicas too, which each apply sets back", target.id())
	if o.kind() != "ScaledObject" {
		return
	}
	shards, _ := strconv.Atoi(s.env(target)["POSTRIDER_STREAMS_SHARDS"])
	segments, _ := strconv.Atoi(s.env(target)["POSTRIDER_STREAMS_SEGMENTS"])
	want := map[string]string{"EVENTS": "router"}
	for segment := 1; segment < segments; segment++ {
		want["EVENTS_"+strconv.Itoa(segment)] = "router"
	}
	if target.name() == "dispatcher" {
		want = map[string]string{}
		for shard := range shards {
			want["DELIVERIES_"+strconv.Itoa(shard)] = "dispatcher"
		}
		s.rule(int(number(o, "spec", "maxReplicaCount")) == shards+2, o, "its most replicas are not the shards and two")
	}
	s.rule(number(o, "spec", "minReplicaCount") >= 2, o, "scales to less than two")
	age := false
	for _, trigger := range items(o, "spec", "triggers") {
		s.trigger(o, trigger, want)
		age = age || strings.Contains(text(trigger, "metadata", "query"), "oldest_age")
	}
	s.rule(len(want) == 0, o, "has no trigger for %v", want)
	s.rule(age, o, "does not look at the oldest age")
}

// triggerKeys are those that KEDA's scalers read; its CRD takes any.
var triggerKeys = map[string][]string{
	"nats-jetstream": {"natsServerMonitoringEndpoint", "account", "accountID", "stream", "consumer", "lagThreshold", "activationLagThreshold", "useHttps"},
	"prometheus":     {"serverAddress", "query", "threshold", "activationThreshold", "namespace", "ignoreNullValues", "queryParameters"},
}

func (s *set) trigger(o Object, trigger any, want map[string]string) {
	keys := triggerKeys[text(trigger, "type")]
	for key := range fields(trigger, "metadata") {
		s.rule(slices.Contains(keys, key), o, "%s knows no %s", text(trigger, "type"), key)
	}
	if text(trigger, "type") != "nats-jetstream" {
		return
	}
	stream := text(trigger, "metadata", "stream")
	s.rule(want[stream] == text(trigger, "metadata", "consumer"), o, "no consumer %s of %s", text(trigger, "metadata", "consumer"), stream)
	delete(want, stream)
	lag, _ := strconv.Atoi(text(trigger, "metadata", "lagThreshold"))
	s.rule(lag > inFlight, o, "its lag threshold is below what is in flight")
	s.rule(strings.Contains(text(trigger, "metadata", "natsServerMonitoringEndpoint"), "headless"), o, "asks one server, not all")
}

func (s *set) policy(o Object) {
	selector := fields(o, "spec", "podSelector")
	if len(selector) > 0 {
		for _, w := range s.selects(o, selector) {
			for _, in := range items(o, "spec", "ingress") {
				for _, p := range items(in, "ports") {
					if name := text(p, "port"); name != "" {
						s.rule(s.hasPort(w, name), o, "%s has no port %s", w.id(), name)
					}
				}
			}
		}
	}
	for _, out := range items(o, "spec", "egress") {
		for _, to := range items(out, "to") {
			if peer := fields(to, "podSelector"); len(peer) > 0 && get(to, "namespaceSelector") == nil {
				s.selects(o, peer)
			}
			s.block(o, get(to, "ipBlock"))
		}
	}
	for _, in := range items(o, "spec", "ingress") {
		for _, from := range items(in, "from") {
			if peer := fields(from, "podSelector"); len(peer) > 0 && get(from, "namespaceSelector") == nil {
				s.selects(o, peer)
			}
		}
	}
}

// private is what no receiver may have, of both families.
var private = []string{"10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "127.0.0.1", "100.64.0.1", "224.0.0.1", "fd00::1", "fe80::1", "::1", "2002:a00:1::", "fd00:ec2::254"}

func (s *set) block(o Object, block any) {
	if block == nil || o.name() != "receivers" {
		return
	}
	whole, err := netip.ParsePrefix(text(block, "cidr"))
	s.rule(err == nil, o, "%s is no CIDR", text(block, "cidr"))
	var except []netip.Prefix
	for _, e := range items(block, "except") {
		p, err := netip.ParsePrefix(fmt.Sprint(e))
		s.rule(err == nil && whole.Contains(p.Addr()), o, "%v is not within %s", e, whole)
		except = append(except, p)
	}
	for _, a := range private {
		ip := netip.MustParseAddr(a)
		s.rule(!whole.Contains(ip) || slices.ContainsFunc(except, func(p netip.Prefix) bool { return p.Contains(ip) }), o, "lets through to %s", a)
	}
}
