package jsonapi

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func testRecords() []*record {
	day := func(d int) time.Time { return time.Date(2026, 11, d, 12, 0, 0, 0, time.UTC) }
	return []*record{
		{id: 1, accountID: 3, name: "prod-a", url: "https://example.com/a", events: []string{"release.created"}, scopes: []byte(`{}`), created: day(1), updated: day(9), secret: "s1", hasSecret: true},
		{id: 2, accountID: 3, name: `a%b`, url: "https://example.com/b", events: []string{"release.created", "release.live"}, scopes: []byte(`{"project_id":[12]}`), created: day(2), updated: day(8), secret: "s2", hasSecret: true},
		{id: 3, accountID: 3, name: "axb", url: "https://other.example/c", events: []string{"*"}, scopes: []byte(`{}`), created: day(3), updated: day(7), secret: "s3", hasSecret: true},
		{id: 4, accountID: 3, name: `PROD_\`, url: "https://other.example/d", events: []string{"release.live"}, scopes: []byte(`{}`), created: day(3), updated: day(6)},
	}
}

func TestFiltersKeepWhatTheySay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		query string
		ids   []int64
	}{
		"equality":                             {"filter[name]=axb", []int64{3}},
		"a percent sign stands for itself":     {"filter[name]=a%25b", []int64{2}},
		"an underscore stands for itself":      {"filter[name__suffix]=_%5C", []int64{4}},
		"several values":                       {"filter[id][]=1&filter[id][]=2&filter[id][]=99", []int64{1, 2}},
		"in":                                   {"filter[id__in][]=1&filter[id__in][]=4", []int64{1, 4}},
		"percent-encoded brackets":             {"filter%5Bid__in%5D%5B%5D=1", []int64{1}},
		"not equal":                            {"filter[id__neq]=1", []int64{2, 3, 4}},
		"not one of":                           {"filter[id__neq][]=1&filter[id__neq][]=2", []int64{3, 4}},
		"less":                                 {"filter[id__lt]=2", []int64{1}},
		"at most":                              {"filter[id__lte]=2", []int64{1, 2}},
		"more":                                 {"filter[id__gt]=3", []int64{4}},
		"at least":                             {"filter[id__gte]=3", []int64{3, 4}},
		"a half-open range of time":            {"filter[created_at__gte]=2026-11-02T12:00:00Z&filter[created_at__lt]=2026-11-03T12:00:00Z", []int64{2}},
		"a time with an unencoded plus":        {"filter[created_at]=2026-11-02T13:00:00+01:00", []int64{2}},
		"a date is its first moment":           {"filter[created_at__lt]=2026-11-02", []int64{1}},
		"the other time":                       {"filter[updated_at__gt]=2026-11-08T12:00:00Z", []int64{1}},
		"prefix":                               {"filter[url__prefix]=https://ex", []int64{1, 2}},
		"prefix minds the case":                {"filter[name__prefix]=PROD", []int64{4}},
		"match does not":                       {"filter[name__match]=pro", []int64{1, 4}},
		"events have one in common":            {"filter[events__contains][]=release.live&filter[events__contains][]=x", []int64{2, 4}},
		"events equal as a whole":              {"filter[events][]=release.created&filter[events][]=release.live", []int64{2}},
		"events do not equal in part":          {"filter[events]=release.live", []int64{4}},
		"events differ":                        {"filter[events__neq][]=*", []int64{1, 2, 4}},
		"scopes equal":                         {`filter[scopes]={"project_id": [12]}`, []int64{2}},
		"scopes differ":                        {`filter[scopes__neq]={}`, []int64{2}},
		"nothing is null":                      {"filter[name__exists]=false", nil},
		"nothing is null, said with 0":         {"filter[name__exists]=0", nil},
		"nothing is null, said with nothing":   {"filter[name__exists]=", nil},
		"everything is there":                  {"filter[name__exists]=true", []int64{1, 2, 3, 4}},
		"an empty array equals nothing":        {"filter[id][]=", nil},
		"nothing is in an empty array":         {"filter[name__in][]=", nil},
		"nothing has a part of an empty array": {"filter[events__contains][]=", nil},
		"nothing is not in an empty array":     {"filter[id__neq][]=", []int64{1, 2, 3, 4}},
		"all filters hold together":            {"filter[name__match]=pro&filter[id__gt]=1", []int64{4}},
		"another account's number":             {"filter[account_id]=4", nil},
		"a secret as a whole":                  {"filter[secret]=s2", []int64{2}},
		"a secret in part":                     {"filter[secret]=s", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, f := parseQuery(test.query, takesList)
			require.Empty(t, f)
			var ids []int64
			for _, r := range testRecords() {
				if q.keeps(r) && !slices.ContainsFunc(q.secrets(), func(c condition) bool { return !c.holds(r) }) {
					ids = append(ids, r.id)
				}
			}
			require.Equal(t, test.ids, ids)
		})
	}
}

func TestWhatAQueryCannotMeanIsRefusedWithItsParameter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		query, parameter string
		status           int
	}{
		"an unknown attribute":            {"filter[nothing]=1", "filter[nothing]", 400},
		"SQL as an attribute":             {"filter[id)%3Bdrop%20table%20webhooks%3B--]=1", "filter[id);drop table webhooks;--]", 400},
		"quotes as an attribute":          {`filter["id"%3D'1]=1`, `filter["id"='1]`, 400},
		"an unknown operator":             {"filter[name__like]=a", "filter[name__like]", 400},
		"an operator of another kind":     {"filter[id__match]=1", "filter[id__match]", 400},
		"a secret letter by letter":       {"filter[secret__prefix]=s", "filter[secret__prefix]", 400},
		"a secret by part":                {"filter[secret__match]=s", "filter[secret__match]", 400},
		"a secret by order":               {"filter[secret__gt]=s", "filter[secret__gt]", 400},
		"whether there is a secret":       {"filter[secret__exists]=1", "filter[secret__exists]", 400},
		"no integer":                      {"filter[id]=abc", "filter[id]", 400},
		"an integer beyond all":           {"filter[id]=99999999999999999999", "filter[id]", 400},
		"no time":                         {"filter[created_at__gt]=yesterday", "filter[created_at__gt]", 400},
		"scopes that are no object":       {"filter[scopes]=[]", "filter[scopes]", 400},
		"many values where one is wanted": {"filter[id__lt][]=1", "filter[id__lt][]", 400},
		"the same filter twice":           {"filter[id]=1&filter[id]=2", "filter[id]", 400},
		"a filter of nothing":             {"filter=1", "filter", 400},
		"brackets too deep":               {"filter[a][b][c]=1", "filter[a][b][c]", 400},
		"brackets that do not match":      {"filter[id=1", "filter[id", 400},
		"an unknown parameter":            {"filtre[id]=1", "filtre[id]", 400},
		"an unknown key to sort by":       {"sort=secret", "sort", 400},
		"sorting by events":               {"sort=-events", "sort", 400},
		"a page before the first":         {"page[number]=0", "page[number]", 422},
		"a page that is none":             {"page[number]=x", "page[number]", 422},
		"a page of nothing":               {"page[size]=0", "page[size]", 422},
		"a page too large":                {"page[size]=1001", "page[size]", 422},
		"a size that is none":             {"page[size]=abc", "page[size]", 422},
		"a size beyond all":               {"page[size]=99999999999999999999", "page[size]", 422},
		"something else of the page":      {"page[cursor]=1", "page[cursor]", 400},
		"a count that is neither":         {"count=maybe", "count", 422},
		"fields of another resource":      {"fields[users]=name", "fields[users]", 400},
		"fields that are not there":       {"fields[notification/webhooks]=nothing", "fields[notification/webhooks]", 400},
		"something to include":            {"include=account", "include", 422},
		"something included":              {"included[]=account", "included[]", 422},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, f := parseQuery(test.query, takesList|takesFields|takesInclude)
			require.Len(t, f, 1)
			require.Equal(t, test.status, f[0].status)
			require.Equal(t, test.parameter, f[0].parameter)
		})
	}
	_, f := parseQuery("filter[%zz]=1", takesList)
	require.Equal(t, 400, f.status())
	_, f = parseQuery("sort=x&page[size]=0", takesList)
	require.Len(t, f, 2, "all faults at once")
	_, f = parseQuery("page[size]=1", takesFields)
	require.Len(t, f, 1, "a route without a list has no pages")
}

func TestFieldsAreTakenInBothSpellings(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"fields[notification/webhooks][]=name&fields[notification/webhooks][]=url",
		"fields[notification/webhooks]=name,url",
		"fields%5Bnotification%2Fwebhooks%5D%5B%5D=name&fields%5Bnotification%2Fwebhooks%5D%5B%5D=url",
		"fields%5Bnotification%2Fwebhooks%5D=name%2Curl",
	} {
		q, f := parseQuery(raw, takesFields)
		require.Empty(t, f, raw)
		require.Equal(t, []string{"name", "url"}, q.fields, raw)
	}
	q, f := parseQuery("fields[notification/webhooks]=", takesFields)
	require.Empty(t, f)
	require.False(t, q.wants("name"))
	require.Nil(t, testRecords()[0].resource(q).Attributes)
}

func TestTheOrderEndsWithTheID(t *testing.T) {
	t.Parallel()
	q, f := parseQuery("sort=-created_at,name", takesList)
	require.Empty(t, f)
	records := testRecords()
	slices.Reverse(records)
	q.order(records)
	var ids []int64
	for _, r := range records {
		ids = append(ids, r.id)
	}
	require.Equal(t, []int64{4, 3, 2, 1}, ids, "3 and 4 are of one time; PROD stands before axb")
}

func TestPagesPartTheList(t *testing.T) {
	t.Parallel()
	records := make([]*record, 2345)
	for i := range records {
		records[i] = &record{id: int64(i)}
	}
	var all []*record
	for number, want := range []int{1000, 1000, 345, 0} {
		page := (&query{number: number + 1, size: 1000}).page(records)
		require.Len(t, page, want)
		all = append(all, page...)
	}
	require.Equal(t, records, all)
	require.Empty(t, (&query{number: 1<<62 + 1, size: 1000}).page(records))
	require.Empty(t, (&query{number: 1, size: 1}).page(nil))
}

func FuzzAQueryIsReadOrRefused(f *testing.F) {
	for _, seed := range []string{
		"page[number]=2&page[size]=2&sort=-created_at,name&count=true&filter[name__match]=pro&fields[notification/webhooks]=name,url",
		"filter[id__in][]=1&filter[id__in][]=", "filter[events][]=*", "filter[][]=", "fields[][]=", "filter[[]]=", "a[b]c=1", "%", "filter[scopes]={\"a\":1}",
		"filter[created_at__lt]=2026-11-21T21:00:00+01:00", "include=&included[]=",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, failed := parseQuery(raw, takesList|takesFields|takesInclude)
		if (q == nil) == (len(failed) == 0) {
			t.Fatal("neither or both")
		}
		for _, each := range failed {
			if each.status != 400 && each.status != 422 {
				t.Fatalf("status %d", each.status)
			}
		}
		if q == nil {
			return
		}
		records := testRecords()
		for _, r := range records {
			q.keeps(r)
			for _, c := range q.secrets() {
				c.holds(r)
			}
			r.resource(q)
		}
		q.order(records)
		if len(q.page(records)) > q.size {
			t.Fatal("page too large")
		}
	})
}

func FuzzAKeyIsSplitAsItIsWritten(f *testing.F) {
	f.Add("filter[id][]")
	f.Add("fields[notification/webhooks]")
	f.Fuzz(func(t *testing.T, name string) {
		base, path, ok := splitKey(name)
		if ok && parameter(base, path...) != name {
			t.Fatalf("%q became %q %q", name, base, path)
		}
	})
}

func FuzzAConditionHoldsOrIsRefused(f *testing.F) {
	f.Add("name__match", "a", true)
	f.Add("scopes__neq", `{"a":[1e400]}`, false)
	f.Fuzz(func(t *testing.T, name, value string, array bool) {
		c, err := parseCondition(name, strings.Split(value, ","), array)
		if err != nil {
			return
		}
		for _, r := range testRecords() {
			holds := c.holds(r)
			if negated, err := parseCondition(c.attribute+"__neq", c.texts, array); err == nil && c.operator == "eq" && len(c.texts) > 0 && negated.holds(r) == holds {
				t.Fatalf("%s and its negation agree", url.QueryEscape(name))
			}
		}
	})
}
