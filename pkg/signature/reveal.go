package signature

// Reveal is the text of a secret that is a text (KindText), for the one format that sends it in
// its body as a token; empty for every other secret. What it gives must not be logged or kept.
func (s Secret) Reveal() string {
	if s.key == nil || s.key.kind != KindText {
		return ""
	}
	return string(s.key.mac)
}
