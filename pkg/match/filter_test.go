package match_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/match"
)

func attributes(data string) *match.Attributes {
	return &match.Attributes{
		ID:          "evt_01JDABCDEFGHJKMNPQRSTVWXYZ",
		Type:        "release.live",
		Source:      "/catalogue",
		Time:        time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC),
		Labels:      map[string]string{"project_id": "12", "tier": "gold"},
		ContentType: "application/json",
		Data:        func() []byte { return []byte(data) },
	}
}

const album = `{"title":"Decaf","price":9.5,"count":3,"active":true,"nothing":null,` +
	`"id":9007199254740993,"big":18446744073709551615,"huge":1e400,"tags":["pop","demo"],"items":[{"sku":"a","n":1},{"sku":"b","n":7}]}`

func TestFilter(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		expr string
		want bool
	}{
		"an empty expression matches everything":              {``, true},
		"a blank expression matches everything":               {" \n", true},
		"the event's type is compared":                        {`event.type == "release.live"`, true},
		"the event's type is searched":                        {`event.type.startsWith("track.")`, false},
		"the event's source is compared":                      {`event.source == "/catalogue"`, true},
		"the event's id is compared":                          {`event.id.startsWith("evt_")`, true},
		"the event's time is a timestamp":                     {`event.time > timestamp("2026-01-01T00:00:00Z")`, true},
		"the event's time is in UTC":                          {`event.time.getHours() == 22`, true},
		"a label is read by index":                            {`event.labels["tier"] == "gold"`, true},
		"a label is read by name":                             {`event.labels.tier == "silver"`, false},
		"a label's presence is asked for":                     {`"tier" in event.labels && !("none" in event.labels)`, true},
		"a label's presence is asked for with has":            {`has(event.labels.tier) && !has(event.labels.none)`, true},
		"a text of data is compared":                          {`data.title == "Decaf"`, true},
		"a fraction of data is compared":                      {`data.price > 9.0 && data.price < 10.0`, true},
		"a whole number of data equals an int":                {`data.count == 3`, true},
		"a whole number of data is ordered with an int":       {`data.count > 2 && data.count <= 3`, true},
		"a whole number of data is calculated as a double":    {`data.count * 2.0 == 6.0`, true},
		"a whole number of data is converted to an int":       {`int(data.count) % 2 == 1`, true},
		"an integer that a double rounds stays exact":         {`data.id == 9007199254740993`, true},
		"and does not equal its neighbour":                    {`data.id == 9007199254740992`, false},
		"an integer beyond 63 bits stays exact":               {`data.big == 18446744073709551615u`, true},
		"a number beyond every type is infinite":              {`data.huge > 1.0e300`, true},
		"a boolean of data is compared":                       {`data.active == true`, true},
		"null is compared":                                    {`data.nothing == null`, true},
		"the presence of a member is asked for":               {`has(data.title) && !has(data.subtitle)`, true},
		"a list contains":                                     {`"pop" in data.tags`, true},
		"a list of objects is searched":                       {`data.items.exists(i, i.sku == "b" && i.n > 5)`, true},
		"a list is counted":                                   {`size(data.items.filter(i, i.n > 5)) == 1`, true},
		"a regular expression is matched":                     {`data.title.matches("^De.af$")`, true},
		"data that the logic does not need is not needed":     {`event.type == "release.live" || data.nothing.at.all == 1`, true},
		"a list's element may be called event":                {`data.items.exists(event, event.sku == "a")`, true},
		"a condition chooses":                                 {`event.type == "x" ? data.a == 1 : data.active == true`, true},
		"a comparison of different types is false, not wrong": {`data.title == 3`, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := match.CompileFilter(tt.expr)
			require.NoError(t, err)
			got, err := f.Match(attributes(album))
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestFilterThatDoesNotCompile(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ expr, says string }{
		"a syntax error is placed":             {`event.type == `, "line 1, column"},
		"an unknown name is named":             {`evnt.type == "x"`, "did you mean 'event.type'"},
		"an unknown attribute is named":        {`event.kind == "x"`, "undeclared reference to 'event.kind'"},
		"types must go together":               {`event.type == 1`, "no matching overload"},
		"a text is no answer":                  {`event.type`, "must give a bool, not string"},
		"a value of data is no answer":         {`data.active`, "data.active == true"},
		"there is no clock":                    {`now() > event.time`, "undeclared reference to 'now'"},
		"it must not be too long":              {`event.type == "` + strings.Repeat("x", match.MaxFilterBytes) + `"`, "at most 4096 bytes"},
		"it must not be too deep":              {strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000), "recursion"},
		"a regular expression must be correct": {`event.type.matches("(")`, "missing closing"},
		"a regular expression must be small":   {`event.type.matches("((a{100}){10}){10}")`, "regex"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := match.CompileFilter(tt.expr)
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestFilterThatHasNoAnswer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ expr, data, says string }{
		"a member that is not there":            {`data.subtitle == "x"`, album, "no such key: subtitle"},
		"a label that is not there":             {`event.labels.none == "x"`, album, "no such key: none"},
		"types that do not go together":         {`data.title + 1 == 2`, album, "no such overload"},
		"data that are not JSON":                {`data.title == "x"`, `<a/>`, "data is not JSON"},
		"data that are empty":                   {`data.title == "x"`, ``, "data is not JSON: it is empty"},
		"data that are more than a value":       {`data.title == "x"`, `{"title":"x"} {}`, "data is not JSON: something follows"},
		"data that are cut":                     {`data.title == "x"`, `{"title":"x"`, "data is not JSON"},
		"data whose fault the logic would hide": {`data.title == "x" || true`, `<a/>`, "data is not JSON"},
		"too much work": {
			`data.all(a, data.all(b, data.all(c, a + b + c >= 0.0)))`,
			"[" + strings.Repeat("1,", 999) + "1]", "cost limit",
		},
		"too much text": {
			`data.s.contains("x" + data.s) || (data.s + data.s + data.s + data.s).size() == 1`,
			`{"s":"` + strings.Repeat("a", 1<<20) + `"}`, "cost limit",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := match.CompileFilter(tt.expr)
			require.NoError(t, err)
			got, err := f.Match(attributes(tt.data))
			require.ErrorContains(t, err, tt.says)
			require.False(t, got)
		})
	}
}

func TestTheCostLimitLetsUsualFiltersSeeLargeData(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ expr, data string }{
		"a list of ten thousand objects is searched": {
			`data.items.exists(i, i.sku == "last")`, `{"items":[` + strings.Repeat(`{"sku":"x"},`, 9_999) + `{"sku":"last"}]}`,
		},
		"a text of a mebibyte is searched": {`data.text.contains("last")`, `{"text":"` + strings.Repeat("a", 1<<20) + `last"}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := match.CompileFilter(tt.expr)
			require.NoError(t, err)
			matched, err := f.Match(attributes(tt.data))
			require.NoError(t, err)
			require.True(t, matched)
		})
	}
}

func TestFiltersOfOneEventShareItsDecodedData(t *testing.T) {
	t.Parallel()
	calls := 0
	a := attributes(album)
	a.Data = func() []byte { calls++; return []byte(album) }

	f, err := match.CompileFilter(`event.type == "release.live"`)
	require.NoError(t, err)
	matched, err := f.Match(a)
	require.NoError(t, err)
	require.True(t, matched)
	require.Zero(t, calls, "an expression that does not name data must not decode it")

	for range 3 {
		g, err := match.CompileFilter(`data.count == 3`)
		require.NoError(t, err)
		matched, err = g.Match(a)
		require.NoError(t, err)
		require.True(t, matched)
	}
	require.Equal(t, 1, calls)
}

func TestAFaultOfDataDoesNotOutliveTheFilterThatAskedForIt(t *testing.T) {
	t.Parallel()
	a := attributes(`<a/>`)
	asks, err := match.CompileFilter(`data.x == 1`)
	require.NoError(t, err)
	other, err := match.CompileFilter(`event.type == "release.live"`)
	require.NoError(t, err)
	for range 2 {
		_, err = asks.Match(a)
		require.ErrorContains(t, err, "data is not JSON")
		matched, err := other.Match(a)
		require.NoError(t, err)
		require.True(t, matched)
	}
}

func TestANilFilterMatches(t *testing.T) {
	t.Parallel()
	var f *match.Filter
	matched, err := f.Match(attributes(album))
	require.NoError(t, err)
	require.True(t, matched)
}

func TestAFilterIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	f, err := match.CompileFilter(`data.items.exists(i, i.n > 5) && event.type.matches("live$")`)
	require.NoError(t, err)
	results := make(chan bool)
	for range 8 {
		go func() {
			ok := true
			for range 50 {
				matched, err := f.Match(attributes(album))
				ok = ok && matched && err == nil
			}
			results <- ok
		}()
	}
	for range 8 {
		require.True(t, <-results)
	}
}

func FuzzCompileFilter(f *testing.F) {
	for _, expr := range []string{
		`event.type == "release.live"`, `data.items.exists(i, i.n > 5)`, `event.labels["tier"] in ["gold"]`,
		`data.title.matches("^a+$") && size(data.tags) > 1`, `event.time > timestamp("2026-01-01T00:00:00Z")`, `(`, `"`, `1 / 0 == 1`,
		`[1,2].map(x, x * 2).all(y, y > 0)`, `{"a": data}.a == data`, `has(data.x)`, `duration("1h") > duration("1s")`,
	} {
		f.Add(expr, album)
	}
	f.Fuzz(func(t *testing.T, expr, data string) {
		filter, err := match.CompileFilter(expr)
		if err != nil {
			return
		}
		first, err1 := filter.Match(attributes(data))
		second, err2 := filter.Match(attributes(data))
		require.Equal(t, err1 == nil, err2 == nil, "the answer must not change")
		require.Equal(t, first, second, "the answer must not change")
	})
}

// FuzzFilterData looks for payloads that break the decoding.
func FuzzFilterData(f *testing.F) {
	for _, data := range []string{album, ``, `null`, `1e999`, `-0`, `[[[]]]`, `{"a":18446744073709551616}`, `"\ud800"`, "\ufeff{}"} {
		f.Add(data)
	}
	filter, err := match.CompileFilter(`data == data && type(data) != type(event.time)`)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data string) {
		matched, err := filter.Match(attributes(data))
		if json.Valid([]byte(data)) {
			require.NoError(t, err)
			require.True(t, matched)
		} else {
			require.ErrorContains(t, err, "data is not JSON")
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	tests := map[string]string{
		"type":       `event.type == "release.live"`,
		"label":      `event.labels["tier"] == "gold"`,
		"data":       `data.count == 3 && data.active == true`,
		"data list":  `data.items.exists(i, i.sku == "b")`,
		"cost limit": `[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, [1,2,3,4,5,6,7,8].all(d, [1,2,3,4,5,6,7,8].all(e, a + b + c + d + e > 0)))))`,
	}
	for name, expr := range tests {
		b.Run(name, func(b *testing.B) {
			f, err := match.CompileFilter(expr)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Match(attributes(album))
			}
		})
	}
}

func BenchmarkCompileFilter(b *testing.B) {
	for b.Loop() {
		if _, err := match.CompileFilter(`data.items.exists(i, i.sku == "b") && event.type.startsWith("release.")`); err != nil {
			b.Fatal(err)
		}
	}
}

// Routers and the api compile for many webhooks at once, and owners write filters that are wrong.
func TestFiltersCompileSideBySide(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			_, err := match.CompileFilter(`["gold", "blue"].exists(x, x == event.labels.tier)`)
			assert.NoError(t, err)
		})
		all.Go(func() {
			_, err := match.CompileFilter(`nobody.knows == "this"`)
			assert.ErrorContains(t, err, "undeclared reference")
		})
	}
	all.Wait()
}
