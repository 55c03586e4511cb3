package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/postrider/postrider/pkg/signature"
)

// rawWorkers is how many goroutines of the plain loop post at a time.
const rawWorkers = 64

// Raw is what a plain loop of POSTs reached: the limit that everything is a ratio to. Each POST is
// signed as a delivery is and goes to the same receiver.
type Raw struct {
	Posts     int           `json:"posts"`
	PerSecond float64       `json:"per_second"`
	CPU       time.Duration `json:"cpu_ns_per_post"` // of the client and of the receiver
	Client    time.Duration `json:"cpu_ns_client"`
	Receiver  time.Duration `json:"cpu_ns_receiver"`
}

// rawLoop posts for the time with one shared http.Client.
type rawLoop struct {
	url    string
	client *http.Client
	secret []signature.Secret
	body   []byte
}

func newRawLoop(url string) (*rawLoop, error) {
	secret, err := signature.ParseSecret(signature.GenerateHMAC(), signature.KindHMAC)
	if err != nil {
		return nil, fmt.Errorf("make a secret for the plain loop: %w", err)
	}
	return &rawLoop{
		url: url + hookPath, secret: []signature.Secret{secret}, body: payload(),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * rawWorkers, DisableCompression: true}},
	}, nil
}

func (l *rawLoop) close() { l.client.CloseIdleConnections() }

// run posts for the time and measures it.
func (l *rawLoop) run(ctx context.Context, receiverPID int, d time.Duration) (Raw, error) {
	own := processes{loadName: os.Getpid(), receiverName: receiverPID}
	before, err := own.cpu()
	if err != nil {
		return Raw{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var posts atomic.Int64
	var first firstError
	var workers sync.WaitGroup
	began := time.Now()
	for i := range rawWorkers {
		workers.Go(func() {
			for time.Since(began) < d {
				if err := l.post(ctx, i); err != nil {
					first.set(err)
					cancel()
					return
				}
				posts.Add(1)
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	after, err := own.cpu()
	if err := errors.Join(err, first.get()); err != nil {
		return Raw{}, fmt.Errorf("plain loop: %w", err)
	}
	n := time.Duration(max(posts.Load(), 1))
	used := spent(before, after)
	return Raw{
		Posts:     int(posts.Load()),
		PerSecond: float64(posts.Load()) / took.Seconds(),
		CPU:       total(used) / n, Client: used[loadName] / n, Receiver: used[receiverName] / n,
	}, nil
}

// post makes one signed request, as plainly as net/http lets it be done.
func (l *rawLoop) post(ctx context.Context, hook int) error {
	now := time.Now()
	id := "evt_" + ulid.Make().String()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+strconv.Itoa(hook), bytes.NewReader(l.body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set(signature.HeaderID, id)
	q.Header.Set(signature.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	q.Header.Set(signature.HeaderSignature, signature.StandardWebhooks(id, now, l.body, l.secret))
	resp, err := l.client.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the receiver answered %s", resp.Status)
	}
	return nil
}

// firstError keeps the first of the errors of many goroutines.
type firstError struct {
	mu  sync.Mutex
	err error
}

func (f *firstError) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *firstError) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// payloadSize is the size of every event's data.
const payloadSize = 1 << 10

// payload is a JSON document of payloadSize bytes.
func payload() []byte {
	const head, tail = `{"title":"My Album","tracks":[{"title":"One","isrc":"QZ0000000001"}],"note":"`, `"}`
	body := append(make([]byte, 0, payloadSize), head...)
	body = append(body, bytes.Repeat([]byte("x"), payloadSize-len(head)-len(tail))...)
	return append(body, tail...)
}
