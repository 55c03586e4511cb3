package httpsig

// Base is the signature base that the label's member of Signature-Input asks for.
func Base(m *Message, label string) (string, error) {
	inputs, signatures, err := members(m.Header)
	if err != nil {
		return "", err
	}
	c, err := readClaim(label, inputs, signatures)
	if err != nil {
		return "", err
	}
	base, err := signatureBase(m, c.components, c.params)
	return string(base), err
}

// SignBase signs a base that was made elsewhere.
func (s *Signer) SignBase(base string) ([]byte, error) { return s.sign([]byte(base)) }

// Value is the value of a component in a message.
func Value(m *Message, identifier string) (string, error) {
	c, err := parseComponent(identifier)
	if err != nil {
		return "", err
	}
	return c.value(m)
}
