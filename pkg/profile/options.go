package profile

import (
	"slices"
	"strings"

	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/signature"
)

// The options, by the names of their fields.
const (
	optionQueryStyle          = "query_style"
	optionCloudEventsMode     = "cloudevents_mode"
	optionMessageSignature    = "message_signature"
	optionSignatureScheme     = "signature_scheme"
	optionRequireVerification = "require_verification"
	optionHandshake           = "handshake"

	optionsPrefix = "webhook.options."
)

// The values of options.
const (
	styleBrackets = "brackets"
	styleDots     = "dots"
	styleJSON     = "json"

	modeBinary     = "binary"
	modeStructured = "structured"

	messageNone      = "none"
	messageTarget    = "target-uri"
	messageAuthority = "authority-parts"

	// HandshakeOff, HandshakeOptional and HandshakeRequired say whether receivers are asked for
	// their consent.
	HandshakeOff      = "off"
	HandshakeOptional = "optional"
	HandshakeRequired = "required"
)

// words lists the options that hold a word, and which.
var words = []struct {
	name string
	get  func(o *postriderv1.ProfileOptions) string
	of   []string
}{
	{optionQueryStyle, (*postriderv1.ProfileOptions).GetQueryStyle, []string{styleBrackets, styleDots, styleJSON}},
	{optionCloudEventsMode, (*postriderv1.ProfileOptions).GetCloudeventsMode, []string{modeBinary, modeStructured}},
	{optionMessageSignature, (*postriderv1.ProfileOptions).GetMessageSignature, []string{messageNone, messageTarget, messageAuthority}},
	{optionHandshake, (*postriderv1.ProfileOptions).GetHandshake, []string{HandshakeOff, HandshakeOptional, HandshakeRequired}},
}

// checkOptions says which options the profile does not know, or hold what they may not.
func (r *rules) checkOptions(w *postriderv1.Webhook) []fault.Violation {
	var out []fault.Violation
	o := w.GetOptions()
	refuse := func(name, rule string) { out = append(out, fault.Violation{Field: optionsPrefix + name, Rule: rule}) }
	known := func(name string) bool { return name == optionMessageSignature || slices.Contains(r.options, name) }
	for _, option := range words {
		switch value := option.get(o); {
		case value == "":
		case !known(option.name):
			refuse(option.name, "is not known in this profile")
		case !slices.Contains(option.of, value):
			refuse(option.name, "must be one of "+strings.Join(option.of, ", "))
		}
	}
	if o.GetRequireVerification() && !known(optionRequireVerification) {
		refuse(optionRequireVerification, "is not known in this profile")
	}
	switch scheme := o.GetSignatureScheme(); {
	case !known(optionSignatureScheme):
		if scheme != nil {
			refuse(optionSignatureScheme, "is not known in this profile")
		}
	case scheme == nil:
		refuse(optionSignatureScheme, "is required in this profile")
	default:
		out = append(out, schemeViolations(scheme)...)
	}
	return out
}

func schemeViolations(scheme *postriderv1.SignatureScheme) []fault.Violation {
	const field = optionsPrefix + optionSignatureScheme
	_, err := signature.ParseScheme(scheme)
	if err == nil {
		return nil
	}
	broken, ok := fault.As(err)
	if !ok {
		return []fault.Violation{{Field: field, Rule: err.Error()}}
	}
	out := slices.Clone(broken.Violations)
	for i := range out {
		out[i].Field = field + "." + out[i].Field
	}
	return out
}
