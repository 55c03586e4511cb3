package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// progress tells people how far long work is, on the error stream, so that the output stays what was
// asked for. On a terminal it is one line that is drawn again and removed in the end; elsewhere it is
// a plain line for each step, and one now and then. It is not safe for concurrent use.
type progress struct {
	out     io.Writer
	columns func() int // of the terminal; nil if out is none
	now     func() time.Time

	bytes bool // whether amounts are bytes

	step  string    // that was told last
	told  time.Time // when
	drawn bool      // whether a line stands that must be removed
}

const (
	// redraw is how often the line is drawn again, plainly how often a line is added.
	redraw  = 100 * time.Millisecond
	plainly = 10 * time.Second
)

// progress is that of one piece of work.
func (p *program) progress() *progress {
	g := &progress{out: p.Err, now: p.now}
	if f, ok := p.Err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if kind, _ := p.lookup("TERM"); kind != "dumb" {
			g.columns = func() int {
				width, _, err := term.GetSize(int(f.Fd()))
				if err != nil || width <= 0 {
					return defaultColumns
				}
				return width
			}
		}
	}
	return g
}

const defaultColumns = 80

// live reports whether the line is drawn on a terminal.
func (g *progress) live() bool { return g.columns != nil }

// show says which step is being done, and how much of it: done of total, which is 0 if nobody knows.
// The detail may be empty.
func (g *progress) show(step string, done, total int64, detail string) {
	every := plainly
	if g.live() {
		every = redraw
	}
	now := g.now()
	if step == g.step && now.Sub(g.told) < every {
		return
	}
	g.step, g.told = step, now
	text := printable(g.amount(step, done, total, detail))
	if !g.live() {
		_, _ = fmt.Fprintln(g.out, text) // there is nowhere left to say that it failed
		return
	}
	_, _ = fmt.Fprint(g.out, eraseLine+bar(text, done, total, g.columns()))
	g.drawn = true
}

// end removes the line, so that what follows stands alone. It may be called at any time, and again.
func (g *progress) end() {
	if g.drawn {
		_, _ = fmt.Fprint(g.out, eraseLine)
	}
	g.drawn = false
}

// eraseLine goes to the beginning of the line and erases it.
const eraseLine = "\r\x1b[2K"

// amount is how far a step is, in words.
func (g *progress) amount(step string, done, total int64, detail string) string {
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	if g.bytes {
		count = size
	}
	switch {
	case total > 0:
		step += ": " + count(done) + " of " + count(total)
	case done > 0:
		step += ": " + count(done)
	}
	if detail != "" {
		step += " (" + detail + ")"
	}
	return step
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
}

const (
	leastBar = 10
	mostBar  = 40
)

// bar puts a bar before a text, if it is known how far the step is and there is room. The line has one
// column less than the terminal, which would begin another one else.
func bar(text string, done, total int64, columns int) string {
	if total > 0 {
		share := float64(min(max(done, 0), total)) / float64(total)
		text = fmt.Sprintf("%3.0f%%  %s", share*100, text)
		if width := min(columns-1-utf8.RuneCountInString(text)-len("[]  "), mostBar); width >= leastBar {
			full := int(share * float64(width))
			text = "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]  " + text
		}
	}
	if runes := []rune(text); len(runes) > columns-1 {
		text = string(runes[:max(columns-1, 0)])
	}
	return text
}
