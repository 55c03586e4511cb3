package logstore

// columns is what facts are written from where a statement writes many rows: one slice for each
// column, the first of which is the day.
type columns struct {
	days                                map[int32]bool
	events, deliveries, attempts, moves []any
}

func (g *facts) columns() *columns {
	c := &columns{days: make(map[int32]bool)}
	g.sortAttempts()
	g.sortMoves()
	c.events = c.eventColumns(ordered(g.events))
	c.deliveries = c.deliveryColumns(ordered(g.deliveries))
	c.attempts = c.attemptColumns(g.attempts)
	c.moves = c.moveColumns(g.moves)
	return c
}

// column is one column of some rows.
func column[R, V any](rows []R, value func(R) V) []V {
	out := make([]V, len(rows))
	for i, row := range rows {
		out[i] = value(row)
	}
	return out
}

func (c *columns) day(eventID string) int32 {
	n := dayOf(eventID)
	c.days[n] = true
	return n
}

func (c *columns) eventColumns(rows []*eventFact) []any {
	type row = *eventFact
	return []any{
		column(rows, func(r row) int32 { return c.day(r.id) }),
		column(rows, func(r row) string { return r.id }), column(rows, func(r row) string { return r.account }),
		column(rows, func(r row) string { return r.eventType }), column(rows, func(r row) int64 { return r.sequence }),
		column(rows, func(r row) int64 { return r.accept }), column(rows, func(r row) int64 { return r.route }),
		column(rows, func(r row) int32 { return r.matched }), column(rows, func(r row) int32 { return r.unmatched }),
		column(rows, row.bytes), column(rows, func(r row) string { return r.key }), column(rows, func(r row) string { return r.trace }),
		column(rows, func(r row) int64 { return r.expunge }),
	}
}

func (c *columns) deliveryColumns(rows []*fact) []any {
	type row = *fact
	return []any{
		column(rows, func(r row) int32 { return c.day(r.event) }),
		column(rows, func(r row) string { return r.deliveryID }), column(rows, func(r row) string { return r.account }),
		column(rows, func(r row) string { return r.event }), column(rows, func(r row) string { return r.eventType }),
		column(rows, func(r row) string { return r.webhookID }), column(rows, func(r row) string { return r.replayID }),
		column(rows, func(r row) int32 { return r.series }), column(rows, func(r row) string { return string(r.state) }),
		column(rows, func(r row) int32 { return int32(r.state.Rank()) }), //nolint:gosec // a rank
		column(rows, func(r row) int64 { return r.stateTime }), column(rows, func(r row) string { return r.reason }),
		column(rows, func(r row) int64 { return r.next }), column(rows, func(r row) int64 { return r.create }),
		column(rows, func(r row) int32 { return r.attempts }), column(rows, func(r row) int64 { return r.attemptTime }),
		column(rows, func(r row) int32 { return r.status }), column(rows, func(r row) string { return r.class }),
		column(rows, func(r row) string { return r.outcome }), column(rows, func(r row) int32 { return r.routed }),
	}
}

func (c *columns) attemptColumns(rows []attemptFact) []any {
	type row = attemptFact
	return []any{
		column(rows, func(r row) int32 { return c.day(r.event) }),
		column(rows, func(r row) string { return r.id }), column(rows, func(r row) string { return r.delivery }),
		column(rows, func(r row) string { return r.account }), column(rows, func(r row) int64 { return r.start }),
		column(rows, func(r row) []byte { return r.record }), column(rows, func(r row) string { return r.webhook }),
		column(rows, func(r row) int32 { return int32(r.good) }), column(rows, func(r row) int32 { return int32(r.bucket) }), //nolint:gosec // at most 200
	}
}

func (c *columns) moveColumns(rows []moveFact) []any {
	type row = moveFact
	return []any{
		column(rows, func(r row) int32 { return c.day(r.event) }),
		column(rows, func(r row) string { return r.delivery }), column(rows, func(r row) string { return r.account }),
		column(rows, func(r row) int64 { return r.time }), column(rows, func(r row) int32 { return r.series }),
		column(rows, func(r row) string { return string(r.state) }), column(rows, func(r row) string { return r.reason }),
		column(rows, func(r row) int64 { return r.next }),
	}
}
