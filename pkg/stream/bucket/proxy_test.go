package bucket_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a client and a server and can hold back what the server says.
type proxy struct {
	url string

	mu      sync.Mutex
	holding bool
	answers int
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{url: "nats://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			var d net.Dialer
			up, err := d.DialContext(t.Context(), "tcp", u.Host)
			if err != nil {
				_ = down.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(up, down); _ = up.Close() })
			wg.Go(func() { p.answer(down, up); _ = down.Close() })
		}
	})
	t.Cleanup(func() {
		p.drop()
		_ = l.Close()
		wg.Wait()
	})
	return p
}

// answer passes on what the server says, except while it is held back; then it is lost.
func (p *proxy) answer(down io.Writer, up io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		holding := p.holding
		if holding {
			// Every acknowledgement is one message to the client's inbox.
			p.answers += bytes.Count(buf[:n], []byte("MSG _INBOX"))
		}
		p.mu.Unlock()
		if holding {
			continue
		}
		if _, err := down.Write(buf[:n]); err != nil {
			return
		}
	}
}

// hold begins to lose answers.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding, p.answers = true, 0
}

// held is how many answers were lost.
func (p *proxy) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answers
}

// drop lets answers through again; those that were lost stay lost.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holding = false
}
