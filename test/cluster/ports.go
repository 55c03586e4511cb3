package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// blockSize is how many ports a process gets.
const blockSize = 10

// ports hands out blocks of ports: from a base on, or free ones.
type ports struct {
	base  int
	given int
	taken map[int]bool
}

func (p *ports) block() (int, error) {
	if p.base != 0 {
		p.given++
		return p.base + (p.given-1)*blockSize, nil
	}
	for range 1000 {
		first := 10_000 + blockSize*rand.IntN(2_000)
		if !p.taken[first] && free(first) {
			if p.taken == nil {
				p.taken = make(map[int]bool)
			}
			p.taken[first] = true
			return first, nil
		}
	}
	return 0, fmt.Errorf("no free block of %d ports", blockSize)
}

func free(first int) bool {
	for port := first; port < first+blockSize; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // bound and closed at once
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}
