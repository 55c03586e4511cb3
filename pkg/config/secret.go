package config

// SecretContext is the associated data that binds a webhook's sealed secret to its place: moved to
// another account's or webhook's record, it does not open.
func SecretContext(account, webhook, secret string) []byte {
	return []byte("postrider/webhook-secret/" + account + "/" + webhook + "/" + secret)
}

// SigningKeyContext is the associated data that binds an account's sealed signing key to its place:
// moved to another account's record, it does not open.
func SigningKeyContext(account, key string) []byte {
	return []byte("postrider/signing-key/" + account + "/" + key)
}
