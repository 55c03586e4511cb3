package cli

import (
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// accountFlags are what accounts create and update have in common.
type accountFlags struct {
	subdomain, timeZone, policy, class string
	window                             time.Duration
	allowHTTP, strictJSON              bool
	maxInFlight                        int32
	rateLimit                          float64
}

func (a *accountFlags) add(f *pflag.FlagSet) {
	f.StringVar(&a.subdomain, "subdomain", "", "its DNS label, unique over all accounts; default: made from its number")
	f.StringVar(&a.timeZone, "time-zone", "", "IANA time zone; default: UTC")
	f.StringVar(&a.policy, "unknown-types", "", "what happens to events of a type that is not in the catalogue: allow (default), warn or reject")
	f.DurationVar(&a.window, "dedup-window", 0, "how long an idempotency key is remembered; default: 24h")
	f.StringVar(&a.class, "class", "", "class of service: free, standard (default), premium or internal")
	f.BoolVar(&a.allowHTTP, "allow-http", false, "whether its webhooks may have http URLs; default: as the deployment says")
	f.BoolVar(&a.strictJSON, "strict-json", false, "refuse JSON data that JSON.stringify would write in another way")
	f.Int32Var(&a.maxInFlight, "max-in-flight", 0, "attempts at once over all of its webhooks, 1 to 65536; default: no limit")
	f.Float64Var(&a.rateLimit, "rate-limit", 0, "attempts per second over all of its webhooks; default: no limit")
}

// account is what the flags that were given say, and the fields that they are.
func (a *accountFlags) account(f *pflag.FlagSet) (*postriderv1.Account, *fieldmaskpb.FieldMask, error) {
	out, mask := &postriderv1.Account{}, &fieldmaskpb.FieldMask{}
	for _, field := range []struct {
		flag, name string
		set        func() error
	}{
		{"subdomain", "subdomain", func() error { out.Subdomain = a.subdomain; return nil }},
		{"time-zone", "time_zone", func() error { out.TimeZone = a.timeZone; return nil }},
		{"unknown-types", "unknown_type_policy", func() error {
			n, err := choice("--unknown-types", a.policy, policyPrefix, postriderv1.UnknownTypePolicy_value)
			out.UnknownTypePolicy = postriderv1.UnknownTypePolicy(n)
			return err
		}},
		{"dedup-window", "dedup_window", func() error { out.DedupWindow = durationpb.New(a.window); return nil }},
		{"class", "account_class", func() error { out.AccountClass = a.class; return nil }},
		{"allow-http", "allow_http", func() error { out.AllowHttp = &a.allowHTTP; return nil }},
		{"strict-json", "strict_json", func() error { out.StrictJson = a.strictJSON; return nil }},
		{"max-in-flight", "max_in_flight", func() error { out.MaxInFlight = a.maxInFlight; return nil }},
		{"rate-limit", "rate_limit", func() error { out.RateLimit = a.rateLimit; return nil }},
	} {
		if !f.Changed(field.flag) {
			continue
		}
		if err := field.set(); err != nil {
			return nil, nil, err
		}
		mask.Paths = append(mask.Paths, field.name)
	}
	return out, mask, nil
}
