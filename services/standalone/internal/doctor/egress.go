package doctor

import (
	"context"
	"strings"

	"github.com/postrider/postrider/pkg/postrider"
	"github.com/postrider/postrider/services/dispatcher"
)

// egress looks at how receivers are reached, and reaches one if a URL is given.
func (r *Report) egress(ctx context.Context, cfg dispatcher.EgressConfig, url string) {
	if err := dispatcher.CheckEgress(cfg); err != nil {
		r.fail("egress", "correct the options of egress (POSTRIDER_DISPATCHER_EGRESS_...)", "%v", err)
		return
	}
	switch open := cfg.Opened(); {
	case cfg.Proxy != "":
		r.ok("egress", "receivers are reached through a proxy, which decides about addresses")
	case len(open) > 0:
		r.warn("egress", "name in POSTRIDER_DISPATCHER_EGRESS_ALLOW_NETWORKS only what webhooks have to reach", "any webhook may reach %s, which is not public", strings.Join(open, ", "))
	default:
		r.ok("egress", "only public addresses are reached")
	}
	if cfg.Proxy == "" {
		if err := dispatcher.CheckResolver(ctx, nil); err != nil {
			r.warn("resolver", "see that a resolver of /etc/resolv.conf answers here: receivers are looked up at every attempt", "%v", err)
		} else {
			r.ok("resolver", "names can be looked up")
		}
	}
	if url == "" {
		return
	}
	got, err := dispatcher.Reach(ctx, cfg, url)
	switch {
	case err != nil:
		r.fail("receiver", "give an http or https URL", "%v", err)
	case got.Status != 0:
		r.ok("receiver", "it answered HEAD with status %d after %s", got.Status, got.Took.Round(1e6))
	default:
		r.fail("receiver", mends[got.Class], "%s (%s)", got.Message, got.Class)
	}
}

// mends say what to do about each way in which a receiver is not reached.
var mends = map[postrider.ErrorClass]string{
	postrider.ClassBlocked:  "give the receiver a public address, or name its network in POSTRIDER_DISPATCHER_EGRESS_ALLOW_NETWORKS",
	postrider.ClassDNS:      "correct the name, or the resolver of this machine",
	postrider.ClassConnect:  "see that the receiver listens and that no firewall is between",
	postrider.ClassTLS:      "give the receiver a certificate for its name from a known authority, or name its authority in POSTRIDER_DISPATCHER_EGRESS_CA_FILE",
	postrider.ClassTimeout:  "see that the receiver answers in time and that no firewall drops packets",
	postrider.ClassReset:    "look at the receiver's log: it ended the connection",
	postrider.ClassProtocol: "see that an HTTP server listens there, and whether the URL should begin with https",
	postrider.ClassProxy:    "see that the proxy runs, and what it says in its log",
}
