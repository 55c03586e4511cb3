package manifest

// Left is a field, or a whole kind when the path is empty, that only a cluster honours.
type Left struct {
	Kind string // * is every kind
	Path string // lists have [] in them
}

const (
	template = "spec.template.spec."
	server   = "the API server's, which make check/kube asks"
	places   = "there is one node here, so nothing to place"
	two      = "two of each run here, whatever a scaler would say"
)

// Elsewhere is everything in the manifests that the runner does not do, and why.
var Elsewhere = map[Left]string{
	{"*", "metadata.labels"}: "labels of the object itself select nothing here",

	{"Namespace", ""}:               server,
	{"PriorityClass", ""}:           "decides who is evicted; nothing is evicted here",
	{"ServiceAccount", ""}:          "an identity towards the API server, which no service talks to; that no token is mounted is checked in the pod",
	{"PodDisruptionBudget", ""}:     "for evictions; rollouts do not ask it. " + server,
	{"HorizontalPodAutoscaler", ""}: two,
	{"ScaledObject", ""}:            two,
	{"NetworkPolicy", ""}:           "the network plugin's; deploy/check holds the policies against the targets",
	{"PrometheusRule", ""}:          "Prometheus'; test/alerts evaluates the files that it is made from",
	{"HTTPRoute", ""}:               "the gateway's; the producers here call the Service that it leads to",
	{"GRPCRoute", ""}:               "the gateway's; the producers here call the Service that it leads to",

	{"Deployment", "spec.replicas"}:                                  two,
	{"Deployment", "spec.revisionHistoryLimit"}:                      "how many old ReplicaSets are kept for a roll-back",
	{"Deployment", template + "priorityClassName"}:                   "decides who is evicted; nothing is evicted here",
	{"Deployment", template + "topologySpreadConstraints"}:           places,
	{"Deployment", template + "securityContext.seccompProfile"}:      "the filter of the container runtime, which is not here",
	{"Deployment", template + "securityContext.fsGroupChangePolicy"}: "for volumes that are claimed; these are made for the pod, with the group",
	{"Deployment", template + "containers[].resources.requests"}:     places,
	{"Service", "spec.trafficDistribution"}:                          "there is one zone here",
	{"Service", "spec.ports[].appProtocol"}:                          "a hint to gateways",
	{"Certificate", "spec.renewBefore"}:                              "cert-manager's clock; the test renews when it wants to",
	{"Certificate", "spec.privateKey.rotationPolicy"}:                "every certificate that is issued here has a new key",
	{"PodMonitor", "spec.podMetricsEndpoints[].interval"}:            "Prometheus' clock; the test scrapes when it wants to",
	{"PodMonitor", "spec.podMetricsEndpoints[].honorLabels"}:         "who wins where a page has the labels of its target, which is tested nowhere here",
	{"ExternalSecret", "spec.refreshInterval"}:                       "the operator's clock; secrets are read when a pod starts",
	{"ExternalSecret", "spec.target.creationPolicy"}:                 "who deletes the Secret",
}
