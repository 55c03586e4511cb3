package jsonapi

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxPageSize is the default too.
	maxPageSize = 1000
	// maxConditions bounds the filters of a request, and the values of each.
	maxConditions = 100
	maxValues     = 1000
)

// query is what a request asks for beside its path.
type query struct {
	number, size int
	count        bool
	sort         []sortKey
	filter       []condition
	fields       []string // nil: all
}

// sortKey is one key of the order.
type sortKey struct {
	attribute  string
	descending bool
}

// sortable are the attributes that have an order. The secret has none that a caller may learn.
var sortable = []string{"id", "account_id", "name", "url", "created_at", "updated_at"}

// parameters are those that a route takes.
type parameters uint8

const (
	takesFields parameters = 1 << iota
	takesInclude
	takesList
)

// parseQuery reads a query string. Every fault is said at once; what the route does not know is a
// fault, because a filter that is not applied widens a list silently.
func parseQuery(raw string, takes parameters) (*query, failures) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, failures{{status: http.StatusBadRequest, title: "Bad request", detail: "the query string cannot be decoded"}}
	}
	p := &queryParser{q: &query{number: 1, size: maxPageSize}, takes: takes}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names) // so that the answer is the same each time
	for _, name := range names {
		p.read(name, values[name])
	}
	if len(p.failed) > 0 {
		return nil, p.failed
	}
	return p.q, nil
}

type queryParser struct {
	q      *query
	takes  parameters
	failed failures
}

func (p *queryParser) bad(status int, name, detail string) {
	p.failed = append(p.failed, failure{status: status, title: titleOf(status), detail: detail, parameter: name})
}

func (p *queryParser) read(name string, values []string) {
	base, path, ok := splitKey(name)
	if !ok {
		p.bad(http.StatusBadRequest, name, "the brackets do not match")
		return
	}
	switch {
	case base == "fields" && p.takes&takesFields != 0:
		p.readFields(name, path, values)
	case (base == "include" || base == "included") && p.takes&takesInclude != 0:
		p.readInclude(name, values)
	case base == "filter" && p.takes&takesList != 0:
		p.readFilter(name, path, values)
	case base == "page" && p.takes&takesList != 0:
		p.readPage(name, path, values)
	case name == "sort" && p.takes&takesList != 0:
		p.readSort(values)
	case name == "count" && p.takes&takesList != 0:
		p.readCount(values)
	default:
		p.bad(http.StatusBadRequest, name, "there is no such parameter here")
	}
}

func (p *queryParser) readPage(name string, path, values []string) {
	if len(path) != 1 || path[0] != "number" && path[0] != "size" {
		p.bad(http.StatusBadRequest, name, "there is no such parameter here")
		return
	}
	n, err := strconv.Atoi(values[len(values)-1])
	switch {
	case err != nil:
		p.bad(http.StatusUnprocessableEntity, name, "must be an integer")
	case n < 1:
		p.bad(http.StatusUnprocessableEntity, name, "must be at least 1")
	case path[0] == "number":
		p.q.number = n
	case n > maxPageSize:
		p.bad(http.StatusUnprocessableEntity, name, "must be at most "+strconv.Itoa(maxPageSize))
	default:
		p.q.size = n
	}
}

func (p *queryParser) readSort(values []string) {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		attribute, descending := strings.CutPrefix(strings.TrimSpace(part), "-")
		switch {
		case attribute == "" && !descending: // nothing to sort by
		case !slices.Contains(sortable, attribute):
			p.bad(http.StatusBadRequest, "sort", "must be a list of "+strings.Join(sortable, ", ")+`, each with "-" before it for descending`)
			return
		default:
			p.q.sort = append(p.q.sort, sortKey{attribute, descending})
		}
	}
}

func (p *queryParser) readCount(values []string) {
	switch values[len(values)-1] {
	case "true", "1":
		p.q.count = true
	case "false", "0", "":
		p.q.count = false
	default:
		p.bad(http.StatusUnprocessableEntity, "count", "must be true or false")
	}
}

// readFields takes both spellings: fields[type][]=a&fields[type][]=b, and fields[type]=a,b.
func (p *queryParser) readFields(name string, path, values []string) {
	if len(path) == 0 || path[0] != resourceType || len(path) > 2 || len(path) == 2 && path[1] != "" {
		p.bad(http.StatusBadRequest, name, "must be "+parameter("fields", resourceType)+" or "+parameter("fields", resourceType, ""))
		return
	}
	if p.q.fields == nil {
		p.q.fields = []string{}
	}
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		field := strings.TrimSpace(part)
		if field == "" {
			continue
		}
		if _, known := attributeKinds[field]; !known {
			p.bad(http.StatusBadRequest, name, "there is no attribute "+strconv.Quote(clip(field)))
			return
		}
		p.q.fields = append(p.q.fields, field)
	}
}

func (p *queryParser) readInclude(name string, values []string) {
	for _, value := range values {
		if value != "" {
			p.bad(http.StatusUnprocessableEntity, name, "the resource has no relations to include")
			return
		}
	}
}

func (p *queryParser) readFilter(name string, path, values []string) {
	if len(p.q.filter) >= maxConditions || len(values) > maxValues {
		p.bad(http.StatusBadRequest, name, "too many filters or values")
		return
	}
	if len(path) == 0 || len(path) > 2 || len(path) == 2 && path[1] != "" {
		p.bad(http.StatusBadRequest, name, "must be filter[attribute], filter[attribute__operator], or one of these with [] for several values")
		return
	}
	c, err := parseCondition(path[0], values, len(path) == 2)
	if err != nil {
		p.bad(http.StatusBadRequest, name, err.Error())
		return
	}
	p.q.filter = append(p.q.filter, c)
}

// keeps reports whether a record passes every condition but those on the secret.
func (q *query) keeps(r *record) bool {
	for _, c := range q.filter {
		if c.kind != kindSecret && !c.holds(r) {
			return false
		}
	}
	return true
}

// secrets are the conditions on the secret.
func (q *query) secrets() []condition {
	var out []condition
	for _, c := range q.filter {
		if c.kind == kindSecret {
			out = append(out, c)
		}
	}
	return out
}

// wants reports whether an attribute is to be shown.
func (q *query) wants(attribute string) bool {
	return q.fields == nil || slices.Contains(q.fields, attribute)
}

// order sorts records; the id is always the last key.
func (q *query) order(records []*record) {
	slices.SortFunc(records, func(a, b *record) int {
		for _, k := range q.sort {
			c := compare(a, b, k.attribute)
			if k.descending {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return cmp.Compare(a.id, b.id)
	})
}

func compare(a, b *record, attribute string) int {
	switch attribute {
	case "account_id":
		return cmp.Compare(a.accountID, b.accountID)
	case "name":
		return cmp.Compare(a.name, b.name)
	case "url":
		return cmp.Compare(a.url, b.url)
	case "created_at":
		return a.created.Compare(b.created)
	case "updated_at":
		return a.updated.Compare(b.updated)
	}
	return cmp.Compare(a.id, b.id)
}

// page is the part of the records that was asked for.
func (q *query) page(records []*record) []*record {
	if (len(records)-1)/q.size < q.number-1 { // compared so that no product overflows
		return nil
	}
	from := (q.number - 1) * q.size
	return records[min(from, len(records)):min(from+q.size, len(records))]
}

// clip shortens what a caller wrote, for errors.
func clip(s string) string {
	const limit = 64
	if len(s) > limit {
		return s[:limit]
	}
	return s
}
