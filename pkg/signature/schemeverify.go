package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SchemeVerified is what a message says of itself that verified.
type SchemeVerified struct {
	// ID is the message's id, or empty if the scheme does not tell it.
	ID string
	// Time is that of the attempt, or zero if the scheme does not tell it.
	Time time.Time
	// SignedID and SignedTime say whether the signature covers them.
	SignedID, SignedTime bool
}

// SignsTime says whether signatures of the scheme cover the time of the attempt.
func (s *Scheme) SignsTime() bool { return s.content.holds(tokenTime) || s.content.holds(tokenMillis) }

// Digest is the SHA-256 of what is signed. Unlike a signature it does not depend on the key, nor on
// which of several signatures is looked at.
func (s *Scheme) Digest(m SchemeMessage) [sha256.Size]byte {
	buf := buffers.get()
	defer buffers.put(buf)
	h := sha256.New()
	s.content.writeTo(h, &m, buf)
	return [sha256.Size]byte(h.Sum(buf.sum[:0]))
}

// Verify says whether one of the signatures in h belongs to one of the secrets and the message,
// whose id and time are taken from h, and whether that time, if the scheme tells it, is within
// tolerance of now. It compares in constant time, skips what it does not know in a list, and takes
// no key from the request. URL must be the one that the sender has registered, with what Target
// adds. The error is ErrMissingHeader, ErrTimestamp or ErrNoMatch.
func (s *Scheme) Verify(h http.Header, m SchemeMessage, secrets []Secret, now time.Time, tolerance time.Duration) (SchemeVerified, error) {
	value, ok := single(h, s.header)
	if !ok {
		return SchemeVerified{}, ErrMissingHeader
	}
	told, candidates, err := s.take(value)
	if err != nil {
		return SchemeVerified{}, err
	}
	if len(candidates) == 0 {
		return SchemeVerified{}, ErrNoMatch
	}
	if told.seconds, err = s.own(h, s.timestamp, told.seconds); err != nil {
		return SchemeVerified{}, err
	}
	if told.id, err = s.own(h, s.id, told.id); err != nil {
		return SchemeVerified{}, err
	}
	if m.Time, err = s.time(told); err != nil {
		return SchemeVerified{}, err
	}
	if d := now.Sub(m.Time); !m.Time.IsZero() && (d > tolerance || d < -tolerance) {
		return SchemeVerified{}, ErrTimestamp
	}
	m.ID = told.id
	buf := buffers.get()
	defer buffers.put(buf)
	for _, text := range candidates {
		sig, err := s.decode(text)
		if err != nil || len(sig) != s.algorithm.size() {
			continue
		}
		for _, secret := range secrets {
			if secret.key.fits(s.algorithm, false) && secret.key.check(s.algorithm, s.content, &m, sig, buf) {
				return SchemeVerified{
					ID: m.ID, Time: m.Time, SignedID: s.content.holds(tokenID), SignedTime: s.SignsTime(),
				}, nil
			}
		}
	}
	return SchemeVerified{}, ErrNoMatch
}

func (k *key) check(a algorithm, content template, m *SchemeMessage, sig []byte, buf *buffer) bool {
	if a == ed25519Signature {
		buf.message = content.append(buf.message[:0], m, nil)
		return ed25519.Verify(k.public, buf.message, sig)
	}
	return hmac.Equal(sig, k.digest(a, content, m, buf))
}

// own is the value of a header of its own, where the scheme has one, else what the signature's
// header told.
func (s *Scheme) own(h http.Header, name, told string) (string, error) {
	if name == "" {
		return told, nil
	}
	value, ok := single(h, name)
	if !ok || told != "" && told != value {
		return "", ErrMissingHeader
	}
	return value, nil
}

// time is the time that was told; zero if the scheme tells none. Numbers have one text each, so
// that signing again what was read gives what was sent.
func (s *Scheme) time(told captured) (time.Time, error) {
	wantSeconds := s.timestamp != "" || s.value.holds(tokenTime)
	wantMillis := s.value.holds(tokenMillis)
	if !wantSeconds && !wantMillis {
		return time.Time{}, nil
	}
	var at time.Time
	if wantMillis {
		ms, err := strconv.ParseInt(told.millis, 10, 64)
		if err != nil || strconv.FormatInt(ms, 10) != told.millis {
			return time.Time{}, ErrTimestamp
		}
		at = time.UnixMilli(ms)
	}
	if wantSeconds {
		unix, err := strconv.ParseInt(told.seconds, 10, 64)
		if err != nil || strconv.FormatInt(unix, 10) != told.seconds || wantMillis && at.Unix() != unix {
			return time.Time{}, ErrTimestamp
		}
		if !wantMillis {
			at = time.Unix(unix, 0)
		}
	}
	return at, nil
}

func (f valueForm) holds(tok token) bool {
	return f.before.holds(tok) || f.item.holds(tok) || f.after.holds(tok)
}

// take takes the header's value apart: what it tells, and the texts of its signatures.
func (s *Scheme) take(value string) (told captured, signatures []string, err error) {
	for _, entry := range s.value.split(value) {
		c, ok := s.value.item.match(entry, s.encodedLength())
		if ok {
			signatures = append(signatures, c.signature)
		}
		for i := 0; !ok && i < len(s.value.others); i++ {
			c, ok = s.value.others[i].match(entry, 0)
		}
		if ok && !told.merge(c) {
			return captured{}, nil, ErrTimestamp
		}
	}
	return told, signatures, nil
}

// split is the entries of the header's value.
func (f valueForm) split(value string) []string {
	switch f.separator {
	case ' ':
		return strings.Fields(value)
	case ',':
		entries := strings.Split(value, ",")
		for i := range entries {
			entries[i] = strings.TrimSpace(entries[i])
		}
		return entries
	}
	return []string{value}
}

// merge adds what another entry told; false if they contradict each other.
func (c *captured) merge(o captured) bool {
	one := func(have *string, more string) bool {
		if *have == "" {
			*have = more
		}
		return more == "" || *have == more
	}
	return one(&c.id, o.id) && one(&c.seconds, o.seconds) && one(&c.millis, o.millis)
}
