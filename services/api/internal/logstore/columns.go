package logstore

import (
	"encoding/binary"

	"github.com/jackc/pgx/v5/pgtype"
)

// columns is what facts are written from where a statement writes many rows: one array for each
// column, the first of which is the day; none for a table that gets no rows.
type columns struct {
	days                                map[int32]bool
	events, deliveries, attempts, moves []any
}

func (g *facts) columns() *columns {
	c := &columns{days: make(map[int32]bool)}
	g.sortAttempts()
	g.sortMoves()
	c.events = c.table(len(g.events), 18, func(t *table) {
		for _, r := range ordered(g.events) {
			t.row(c.day(r.id))
			k := r.keys()
			t.int(k.account, k.eventType)
			t.long(k.event, k.given, k.trace)
			t.text(r.id, r.account, r.eventType)
			t.long(r.sequence, r.accept, r.route)
			t.int(r.matched, r.unmatched)
			t.bytes(r.record)
			t.text(r.key, r.trace)
			t.long(r.expunge)
		}
	})
	c.deliveries = c.table(len(g.deliveries), 29, func(t *table) {
		for _, r := range g.orderedDeliveries() {
			t.row(c.day(r.event))
			t.int(textKey(r.account), textKey(r.webhookID), textKey(r.account, r.eventType))
			t.long(eventKey(r.event))
			t.text(r.deliveryID, r.account, r.event, r.eventType, r.webhookID, r.replayID)
			t.int(r.series)
			t.text(string(r.state))
			t.int(int32(r.state.Rank())) //nolint:gosec // a rank
			t.long(r.stateTime)
			t.text(r.reason)
			t.long(r.next, r.create)
			t.int(r.attempts)
			t.long(r.attemptTime)
			t.int(r.status)
			t.text(r.class, r.outcome)
			t.int(r.routed)
			if a := r.early; a == nil {
				t.text("")
				t.bytes(nil)
				t.long(0)
				t.int(0, notCounted)
			} else {
				t.text(earlyID(a.id))
				t.bytes(a.frame())
				t.long(a.start)
				t.int(int32(a.good), int32(a.bucket)) //nolint:gosec // at most 200
			}
		}
	})
	c.attempts = c.table(len(g.attempts), 9, func(t *table) {
		for i := range g.attempts {
			r := &g.attempts[i]
			t.row(c.day(r.event))
			t.text(r.id, r.delivery, r.account)
			t.long(r.start)
			t.bytes(r.record)
			t.text(r.webhook)
			t.int(int32(r.good), int32(r.bucket)) //nolint:gosec // at most 200
		}
	})
	c.moves = c.table(len(g.moves), 8, func(t *table) {
		for i := range g.moves {
			r := &g.moves[i]
			t.row(c.day(r.event))
			t.text(r.delivery, r.account)
			t.long(r.time)
			t.int(r.series)
			t.text(string(r.state), r.reason)
			t.long(r.next)
		}
	})
	return c
}

func (c *columns) day(eventID string) int32 {
	n := dayOf(eventID)
	c.days[n] = true
	return n
}

// table is some rows of a table as the arrays of its columns.
type table struct {
	columns []array
	rows    int
	at      int // the column that is next
}

func (c *columns) table(rows, width int, fill func(*table)) []any {
	if rows == 0 {
		return nil
	}
	t := &table{columns: make([]array, width), rows: rows}
	fill(t)
	params := make([]any, width)
	for i := range t.columns {
		t.columns[i].n = rows
		params[i] = &t.columns[i]
	}
	return params
}

// row begins a row with its day.
func (t *table) row(day int32) {
	t.at = 0
	t.int(day)
}

// next is the next column, which gets an item of so many bytes: most others are about as long.
func (t *table) next(oid uint32, size int) *array {
	a := &t.columns[t.at]
	if a.items == nil {
		a.oid, a.items = oid, make([]byte, 0, t.rows*(4+size+size/8))
	}
	t.at++
	return a
}

func (t *table) text(values ...string) {
	for _, v := range values {
		a := t.next(pgtype.TextOID, len(v))
		a.items = append(binary.BigEndian.AppendUint32(a.items, uint32(len(v))), v...) //nolint:gosec // far below 1<<32
	}
}

func (t *table) bytes(v []byte) {
	a := t.next(pgtype.ByteaOID, len(v))
	a.items = append(binary.BigEndian.AppendUint32(a.items, uint32(len(v))), v...) //nolint:gosec // far below 1<<32
}

func (t *table) int(values ...int32) {
	for _, v := range values {
		a := t.next(pgtype.Int4OID, 4)
		a.items = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(a.items, 4), uint32(v)) //nolint:gosec // the same bits
	}
}

func (t *table) long(values ...int64) {
	for _, v := range values {
		a := t.next(pgtype.Int8OID, 8)
		a.items = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(a.items, 8), uint64(v)) //nolint:gosec // the same bits
	}
}

// array is a PostgreSQL array of one dimension without NULL, in the server's binary form: pgx would look up how
// each item is written, which takes longer than to write it.
type array struct {
	oid   uint32 // of the items' type
	n     int
	items []byte // each with its length before it
}

// arrayCodec has pgx send arrays as they are.
type arrayCodec struct{ pgtype.Codec }

// PlanEncode takes arrays as they are, and leaves all else to the type's own codec.
func (c arrayCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(*array); ok && format == pgtype.BinaryFormatCode {
		return arrayPlan{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type arrayPlan struct{}

// Encode appends the array.
func (arrayPlan) Encode(value any, buf []byte) ([]byte, error) {
	a := value.(*array)
	for _, v := range []uint32{1, 0, a.oid, uint32(a.n), 1} { //nolint:gosec // rows of a batch; dimensions, whether there are NULLs, the type, the length, the first index
		buf = binary.BigEndian.AppendUint32(buf, v)
	}
	return append(buf, a.items...), nil
}

// sendArrays has a connection's parameters of these types take arrays.
func sendArrays(m *pgtype.Map) {
	for _, name := range []string{"_text", "_int4", "_int8", "_bytea"} {
		if t, ok := m.TypeForName(name); ok {
			m.RegisterType(&pgtype.Type{Name: name, OID: t.OID, Codec: arrayCodec{t.Codec}})
		}
	}
}
