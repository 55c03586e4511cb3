package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/postrider/postrider/pkg/fault"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const (
	// maxLine bounds a line of a file of events.
	maxLine = 4 << 20
	// maxUnanswered bounds the events of a file that are on their way.
	maxUnanswered = 1024
)

// publishFile publishes the lines of a file over one stream. This goroutine reads and sends, one
// other receives; it is waited for.
func (p *program) publishFile(ctx context.Context, cl *client, path string, quiet bool) error {
	in, total := p.In, int64(0)
	if path != "-" {
		f, err := os.Open(path) //nolint:gosec // the user names the file
		if err != nil {
			return usagef("--file: %w", err)
		}
		defer func() { _ = f.Close() }() // it was only read
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			total = info.Size()
		}
		in = f
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cl.events.StreamEvents(ctx)
	if err != nil {
		return err
	}
	r := &receipts{p: p, out: bufio.NewWriter(p.Out), quiet: quiet, slots: make(chan struct{}, maxUnanswered), open: map[uint64]bool{}, total: total, progress: p.progress()}
	r.progress.bytes = true
	var received error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel() // wakes a sender that waits for an answer
		received = r.receive(stream.Recv)
	})
	sent := r.send(ctx, cl.account, in, stream.Send)
	if err := stream.CloseSend(); err != nil && sent == nil {
		sent = err
	}
	var mistake *usageError
	if sent != nil && !errors.As(sent, &mistake) && !errors.Is(sent, io.EOF) {
		cancel() // nothing more is to be hoped for
	}
	wg.Wait() // for the answers of what was sent, or for the reason why the stream broke
	return r.finish(sent, received)
}

// receipts follows the events of one stream: those that were sent, and what was answered.
type receipts struct {
	p     *program
	out   *bufio.Writer
	quiet bool
	slots chan struct{}
	total int64 // bytes of the file; 0 if nobody knows

	mu         sync.Mutex
	open       map[uint64]bool // lines that are not answered
	read       int64           // bytes
	progress   *progress
	stored     int
	duplicates int
	refused    []fault.Kind
}

// send reads lines and sends them until the end, a line that is no event, or a broken stream.
func (r *receipts) send(ctx context.Context, account string, in io.Reader, send func(*postriderv1.StreamEventsRequest) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := uint64(1); lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		req, err := parseLine(lines.Bytes())
		if err != nil {
			return usagef("line %d: %w", n, err)
		}
		req.AccountId = account
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		r.mu.Lock()
		r.read += int64(len(lines.Bytes())) + 1
		r.open[n] = true
		r.mu.Unlock()
		if err := send(&postriderv1.StreamEventsRequest{Tag: n, Request: req}); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return usagef("--file: %w", err)
	}
	return nil
}

// receive shows answers until the stream ends; nil if it ended well.
func (r *receipts) receive(recv func() (*postriderv1.StreamEventsResponse, error)) error {
	if !r.quiet && r.p.globals.output == outputTable {
		if _, err := fmt.Fprintf(r.out, receiptLine, "LINE", "EVENT", "SEQUENCE", "DUPLICATE"); err != nil {
			return err
		}
	}
	for {
		resp, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.answered(resp); err != nil {
			return err
		}
	}
}

// answered notes and shows one answer.
func (r *receipts) answered(resp *postriderv1.StreamEventsResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open[resp.GetTag()] {
		return failf("the server answered line %d, which was not open", resp.GetTag())
	}
	delete(r.open, resp.GetTag())
	<-r.slots
	refusal := resp.GetVerdict().GetError()
	if refusal != nil {
		r.refused = append(r.refused, kindOf(refusal))
	} else {
		r.stored++
		if resp.GetVerdict().GetReceipt().GetDuplicate() {
			r.duplicates++
		}
	}
	if r.quiet {
		r.progress.show("publishing", min(r.read, cmp.Or(r.total, r.read)), r.total, strconv.Itoa(r.stored)+" stored")
	}
	switch {
	case refusal == nil && r.quiet:
		return nil
	case r.p.globals.output == outputJSON:
		return showLine(r.out, resp)
	case refusal != nil:
		r.refusal(resp.GetTag(), refusal)
		return nil
	}
	receipt := resp.GetVerdict().GetReceipt()
	_, err := fmt.Fprintf(r.out, receiptLine, strconv.FormatUint(resp.GetTag(), 10), receipt.GetEventId(),
		strconv.FormatUint(receipt.GetSequence(), 10), strconv.FormatBool(receipt.GetDuplicate()))
	if err == nil && len(r.open) == 0 {
		err = r.out.Flush() // more may be long in coming
	}
	return err
}

// receiptLine is one receipt among many; an event's id has 30 characters.
const receiptLine = "%-8s  %-30s  %-10s  %s\n"

// kindOf is the kind of a refusal.
func kindOf(e *postriderv1.PublishError) fault.Kind {
	kind, _ := fault.KindOf(fault.FromStatus(status.Error(codes.Code(e.GetCode()), e.GetMessage()))) //nolint:gosec // a code is small
	return kind
}

// sameKind is the kind that all have, or none.
func sameKind(kinds []fault.Kind) fault.Kind {
	for _, k := range kinds {
		if k != kinds[0] {
			return 0
		}
	}
	return kinds[0]
}

func (r *receipts) refusal(line uint64, e *postriderv1.PublishError) {
	faults := make([]string, 0, len(e.GetFieldViolations()))
	for _, v := range e.GetFieldViolations() {
		faults = append(faults, v.GetField()+": "+v.GetDescription())
	}
	text := cmp.Or(strings.Join(faults, "; "), e.GetMessage())
	r.progress.end()
	r.p.note("line %d refused: %s", line, printable(text))
}

// finish tells the sum, and what went wrong.
func (r *receipts) finish(sent, received error) error {
	if err := r.out.Flush(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.end()
	r.p.note("%d stored, %d of them duplicates; %d refused", r.stored, r.duplicates, len(r.refused))
	if received != nil {
		if len(r.open) > 0 {
			r.p.note("%d were not answered, the first on line %d: they may be stored or not", len(r.open), r.first())
		}
		return received // the reason why sending failed, too
	}
	if sent != nil && !errors.Is(sent, io.EOF) {
		return sent
	}
	if len(r.open) > 0 {
		return failf("%d events were not answered, the first on line %d", len(r.open), r.first())
	}
	if len(r.refused) > 0 {
		return &codeError{exitCodeOf(sameKind(r.refused)), fmt.Errorf("%d of %d events were refused", len(r.refused), len(r.refused)+r.stored)}
	}
	return nil
}

func (r *receipts) first() uint64 {
	var lines []uint64
	for n := range r.open {
		lines = append(lines, n)
	}
	return slices.Min(lines)
}
