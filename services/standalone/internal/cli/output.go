package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// show prints a message: as JSON for programs, or with human for people.
func (p *program) show(msg proto.Message, human func(t *table)) error {
	if p.globals.output == outputJSON {
		return p.showJSON(msg)
	}
	return p.showTable(human)
}

func (p *program) showTable(human func(t *table)) error {
	t := &table{w: tabwriter.NewWriter(p.Out, 0, 0, 2, ' ', 0)}
	human(t)
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

// done prints a sentence for people, and the message for programs.
func (p *program) done(msg proto.Message, format string, args ...any) error {
	return p.show(msg, func(t *table) { t.line(fmt.Sprintf(format, args...)) })
}

// note tells people what goes on; it is no output.
func (p *program) note(format string, args ...any) {
	_, _ = fmt.Fprintf(p.Err, format+"\n", args...) // there is nowhere left to say that it failed
}

// showJSON prints a message over several lines, in the form of REST.
func (p *program) showJSON(msg proto.Message) error {
	compact, err := toJSON(msg)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, compact, "", "  "); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	pretty.WriteByte('\n')
	_, err = p.Out.Write(pretty.Bytes())
	return err
}

// showLine prints a message on one line, for output that goes on.
func showLine(w io.Writer, msg proto.Message) error {
	compact, err := toJSON(msg)
	if err != nil {
		return err
	}
	_, err = w.Write(append(compact, '\n'))
	return err
}

// toJSON is a message as compact JSON. Protojson varies its spaces from run to run on purpose;
// programs and people want the same text each time.
func toJSON(msg proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(msg)
	if err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	return compact.Bytes(), nil
}

// table is lines of cells that stand below each other.
type table struct {
	w   *tabwriter.Writer
	err error
}

// row adds a line of cells.
func (t *table) row(cells ...string) {
	for i, c := range cells {
		cells[i] = printable(c)
	}
	t.write(strings.Join(cells, "\t"))
}

// field adds a name and its value, unless that is empty.
func (t *table) field(name, value string) {
	if value != "" {
		t.row(name, value)
	}
}

// line adds a line that is no cells.
func (t *table) line(text string) { t.write(printable(text)) }

func (t *table) write(line string) {
	if _, err := fmt.Fprintln(t.w, strings.TrimRight(line, " \t")); err != nil && t.err == nil {
		t.err = err
	}
}

// printable is a text on one line without what could drive a terminal: much of what is shown comes
// from others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// cell is a value, or a dash where there is none.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// stamp is a time as people read it, in UTC; empty if it is absent.
func stamp(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}

// span is a duration; empty if it is absent.
func span(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().String()
}

// enum is the last word of an enum's value: DELIVERY_STATE_HELD with its prefix is "held".
func enum(value fmt.Stringer, prefix string) string {
	word := strings.ToLower(strings.TrimPrefix(value.String(), prefix))
	if word == "unspecified" {
		return ""
	}
	return word
}

// pairs is a map on one line, in order.
func pairs[V any](m map[string]V) string {
	words := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		words = append(words, fmt.Sprintf("%s=%v", k, m[k]))
	}
	return strings.Join(words, " ")
}
