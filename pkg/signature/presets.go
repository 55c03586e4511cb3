package signature

import "strings"

// NamedScheme is the scheme of a system that is known by its name.
type NamedScheme struct {
	Name   string
	Scheme *Scheme
}

// definition is a scheme as it is written down; the fields are those of postriderv1.SignatureScheme,
// and what only the table below knows.
type definition struct {
	algorithm, keyEncoding, template, encoding, header, value, timestampHeader, idHeader, multiple string

	keyPrefix string
	older     [2]string   // header and value of an HMAC-SHA1 beside the signature
	bodyHash  string      // parameter of the URL that holds the SHA-256 of a body that is no form
	extra     [][2]string // names and values of further headers
}

type row struct {
	name string
	def  definition
}

// presets are the systems whose webhooks a profile can send. A system is a row.
var presets = compileRows([]row{
	{"svix", definition{ // docs.svix.com/receiving/verifying-payloads/how-manual
		algorithm: nameSHA256, keyEncoding: keyBase64, keyPrefix: hmacPrefix,
		template: "{id}.{ts}.{body}", encoding: "base64",
		header: "svix-signature", value: "v1,{sig}", multiple: multipleSpace,
		timestampHeader: "svix-timestamp", idHeader: "svix-id",
	}},
	{"stripe", definition{ // docs.stripe.com/webhooks/signature; the key is the whole text, whsec_ included
		algorithm: nameSHA256, keyPrefix: hmacPrefix,
		template: "{ts}.{body}", header: "Stripe-Signature", value: "t={ts},v1={sig}", multiple: multipleRepeat,
	}},
	{"github", definition{ // docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
		algorithm: nameSHA256, template: "{body}", header: "X-Hub-Signature-256", value: "sha256={sig}",
		older: [2]string{"X-Hub-Signature", "sha1={sig}"},
		extra: [][2]string{{"X-GitHub-Event", "{type}"}, {"X-GitHub-Delivery", "{id}"}},
	}},
	{"shopify", definition{ // shopify.dev/docs/apps/build/webhooks/subscribe/https
		algorithm: nameSHA256, keyPrefix: "shpss_",
		template: "{body}", encoding: "base64", header: "X-Shopify-Hmac-Sha256",
		extra: [][2]string{{"X-Shopify-Topic", "{type}"}, {"X-Shopify-Webhook-Id", "{delivery}"}, {"X-Shopify-Event-Id", "{id}"}},
	}},
	{"slack", definition{ // docs.slack.dev/authentication/verifying-requests-from-slack
		algorithm: nameSHA256, template: "v0:{ts}:{body}", header: "X-Slack-Signature", value: "v0={sig}",
		timestampHeader: "X-Slack-Request-Timestamp",
	}},
	{"square", definition{ // developer.squareup.com/docs/webhooks/step3validate
		algorithm: nameSHA256, template: "{url}{body}", encoding: "base64", header: "X-Square-Hmacsha256-Signature",
	}},
	{"twilio", definition{ // twilio.com/docs/usage/webhooks/webhooks-security
		algorithm: nameSHA1, template: "{url}{form_sorted}", encoding: "base64", header: "X-Twilio-Signature",
		bodyHash: "bodySHA256",
	}},
})

// sources are the schemes of systems whose profiles have a form of their own, for those who verify.
var sources = compileRows([]row{
	{"jewelmusic", definition{ // jewelmusic.art/docs/webhooks
		algorithm: nameSHA256, template: "{body}", header: jewelHeader, value: "sha256={sig}",
	}},
	{"jewelmusic-sdk", definition{ // github.com/jewelmusic/sdk
		algorithm: nameSHA256, template: "{ts}.{body}", header: jewelHeader, value: "t={ts},v1={sig}",
	}},
})

const jewelHeader = "X-JewelMusic-Signature"

// Schemes are the systems whose signature a webhook can have by their name.
func Schemes() []NamedScheme { return append([]NamedScheme(nil), presets...) }

// LookupScheme finds the scheme of a system: one of Schemes, or "jewelmusic" or "jewelmusic-sdk",
// whose profiles add more than a signature.
func LookupScheme(name string) (*Scheme, bool) {
	for _, table := range [][]NamedScheme{presets, sources} {
		for _, n := range table {
			if n.Name == name {
				return n.Scheme, true
			}
		}
	}
	return nil, false
}

// compileRows reads the rows of a table. A row that breaks a rule is a mistake in this file.
func compileRows(rows []row) []NamedScheme {
	out := make([]NamedScheme, len(rows))
	for i, r := range rows {
		s, violations := r.def.compile()
		for _, v := range violations {
			panic("signature: " + strings.Join([]string{r.name, v.Field, v.Rule}, ": "))
		}
		out[i] = NamedScheme{r.name, s}
	}
	return out
}
