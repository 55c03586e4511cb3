package standalone

import (
	"net"
	"net/http"
	"strings"

	"github.com/postrider/postrider/pkg/service"
	"github.com/postrider/postrider/pkg/telemetry"
)

// front sends each HTTP request to the service that serves its path: events to ingest, probes to
// the admin, all else to the API, which serves the surfaces of other systems too.
// "/v1/events:explainMatch" is a method of the API's.
func front(events, rest http.Handler, admin *service.Admin) http.Handler {
	livez, readyz := admin.LivezHandler(), admin.ReadyzHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case path == "/v1/events", strings.HasPrefix(path, "/v1/events/"):
			events.ServeHTTP(w, r)
		case path == "/livez":
			livez.ServeHTTP(w, r)
		case path == "/readyz":
			readyz.ServeHTTP(w, r)
		default:
			rest.ServeHTTP(w, r)
		}
	})
}

// GRPCAddr is where the gRPC server listens, once started.
func (s *Service) GRPCAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.public.Addr().String()
}

// HTTPURL is the base URL of the HTTP server, once started.
func (s *Service) HTTPURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return baseURL(s.web.Addr())
}

// MetricsURL is the page for Prometheus, once started; empty when there is none.
func (s *Service) MetricsURL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admin.MetricsAddr() == nil {
		return ""
	}
	return baseURL(s.admin.MetricsAddr()) + "/metrics"
}

// Instruments lists the metrics that the services have made, once started.
func (s *Service) Instruments() []telemetry.Instrument {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.metrics.Instruments()
}

// AdminKey is the admin key that holds, once started.
func (s *Service) AdminKey() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.adminKey
}

// AdminKeyPath is the file that keeps the admin key.
func (s *Service) AdminKeyPath() string { return s.cfg.path(AdminKeyFile) }

// baseURL is a URL at which this machine reaches a listener.
func baseURL(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}
