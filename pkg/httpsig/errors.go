package httpsig

import "errors"

// What may be wrong. Every error of the package is one of these, and none repeats a secret.
var (
	// ErrMissing says that the message has no signature, or lacks a header that one needs.
	ErrMissing = errors.New("the signature is missing")
	// ErrMalformed says that a header, a component or a key is not well-formed.
	ErrMalformed = errors.New("not well-formed")
	// ErrUnsupported says that a part of RFC 9421, or an algorithm, is not supported here.
	ErrUnsupported = errors.New("not supported")
	// ErrMessage says that a component has no value in this message.
	ErrMessage = errors.New("the message does not have what is signed")
	// ErrUnknownKey says that nobody knows the keyid.
	ErrUnknownKey = errors.New("the keyid is not known")
	// ErrAlgorithm says that the signature names another algorithm than its key's.
	ErrAlgorithm = errors.New("the algorithm is not the key's")
	// ErrPolicy says that the signature does not cover or state what is required.
	ErrPolicy = errors.New("the signature does not cover what is required")
	// ErrExpired says that the signature is too old, or past its expiry.
	ErrExpired = errors.New("the signature has expired")
	// ErrFuture says that the signature was created in the future.
	ErrFuture = errors.New("the signature was created in the future")
	// ErrSignature says that the signature is not one of this message by this key.
	ErrSignature = errors.New("the signature does not verify")
	// ErrDigest says that the body does not match Content-Digest.
	ErrDigest = errors.New("the body does not match Content-Digest")
	// ErrDigestMissing says that there is no Content-Digest, or none of a known algorithm.
	ErrDigestMissing = errors.New("no Content-Digest of a known algorithm")
	// ErrKey says that a key does not fit its algorithm.
	ErrKey = errors.New("the key does not fit the algorithm")
)
