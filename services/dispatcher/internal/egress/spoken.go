package egress

import "sync"

// spokenMost is how many hosts are remembered. Those that are not are met again.
const spokenMost = 16384

// spoken remembers which hosts speak HTTP/2.
type spoken struct {
	mu    sync.RWMutex
	hosts map[string]bool
}

func (s *spoken) has(host string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hosts[host]
}

func (s *spoken) learn(host string, speaks bool) {
	if s.has(host) == speaks {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !speaks:
		delete(s.hosts, host)
		return
	case s.hosts == nil || len(s.hosts) >= spokenMost:
		s.hosts = make(map[string]bool)
	}
	s.hosts[host] = true
}
