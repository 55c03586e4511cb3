package ecmajson_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/ecmajson"
)

// cases are texts with what Node 20 makes of them.
var cases = map[string]struct{ text, want string }{
	"whitespace goes":                            {" {\n\"a\" : [ 1 , 2 ] }\r\n", `{"a":[1,2]}`},
	"empty values stay":                          {`{"a":{},"b":[],"c":""}`, `{"a":{},"b":[],"c":""}`},
	"integers stay":                              {`[0,-1,999999999999999,9007199254740991]`, `[0,-1,999999999999999,9007199254740991]`},
	"integers beyond a double are rounded":       {`[9007199254740993,12345678901234567890123]`, `[9007199254740992,1.2345678901234568e+22]`},
	"minus zero is zero":                         {`[-0,-0.0,-0e5]`, `[0,0,0]`},
	"zeros at the end go":                        {`[1.0,0.10,100.0000000000000000,1e2]`, `[1,0.1,100,100]`},
	"exponents begin at 1e21":                    {`[1e20,1e21,123456789012345680000,1E+21]`, `[100000000000000000000,1e+21,123456789012345680000,1e+21]`},
	"exponents begin below 1e-6":                 {`[0.000001,0.0000001,1.5e-7,1e-10]`, `[0.000001,1e-7,1.5e-7,1e-10]`},
	"the smallest and largest double":            {`[5e-324,1.7976931348623157e308,2.2250738585072014e-308]`, `[5e-324,1.7976931348623157e+308,2.2250738585072014e-308]`},
	"too large is null":                          {`[1e400,-1e400]`, `[null,null]`},
	"too small is zero":                          {`[1e-400,-1e-400]`, `[0,0]`},
	"the slash is not escaped":                   {`"\/"`, `"/"`},
	"short escapes":                              {`"\u0008\u0009\u000a\u000c\u000d\u0022\u005c"`, `"\b\t\n\f\r\"\\"`},
	"control characters":                         {"\"\\u0000\\u001F\u007f\"", "\"\\u0000\\u001f\u007f\""},
	"nothing else is escaped":                    {`"\u003c\u003E\u0026\u2028\u00e9\ud83d\ude00"`, "\"<>&\u2028é😀\""},
	"lone surrogates are":                        {`"\ud800 \uDC00 \ud800\ud800\udc00"`, `"\ud800 \udc00 \ud800𐀀"`},
	"the last of two wins, at the first's place": {`{"b":1,"a":2,"b":3}`, `{"b":3,"a":2}`},
	"escapes make no other name":                 {`{"a":1,"\u0061":2}`, `{"a":2}`},
	"array indexes come first":                   {`{"b":1,"10":2,"2":3,"a":4,"01":5,"-1":6,"4294967294":7,"4294967295":8,"1e3":9}`, `{"2":3,"10":2,"4294967294":7,"b":1,"a":4,"01":5,"-1":6,"4294967295":8,"1e3":9}`},
	"twice, and an array index":                  {`{"1":1,"a":2,"0":3,"1":{"z":1,"0":2}}`, `{"0":3,"1":{"0":2,"z":1},"a":2}`},
	"__proto__ is a name":                        {`{"__proto__":1,"constructor":{}}`, `{"__proto__":1,"constructor":{}}`},
	"literals":                                   {`[true,false,null]`, `[true,false,null]`},
	"a value of no object":                       {` "x" `, `"x"`},
	"the empty name":                             {`{"":1,"0":2}`, `{"0":2,"":1}`},
}

func TestAppendWritesAsECMAScriptDoes(t *testing.T) {
	t.Parallel()
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ecmajson.Append([]byte("before "), []byte(tt.text))
			require.NoError(t, err)
			require.Equal(t, "before "+tt.want, string(got))
			require.NoError(t, ecmajson.Stable([]byte(tt.want)))
			if tt.text != tt.want {
				require.Error(t, ecmajson.Stable([]byte(tt.text)))
			}
		})
	}
}

func TestStableSaysWhereAndWhy(t *testing.T) {
	t.Parallel()
	many := make([]string, 40)
	for i := range many {
		many[i] = `"` + strings.Repeat("k", i+1) + `":1`
	}
	for text, want := range map[string]string{
		`{"a": 1}`:            "byte 5: whitespace between tokens is left out",
		` {}`:                 "byte 0: whitespace between tokens is left out",
		"{}\n":                "byte 2: whitespace between tokens is left out",
		`[1 ,2]`:              "byte 2: whitespace between tokens is left out",
		`{"a":1.0}`:           "byte 5: the number is written in another way",
		`[1e999]`:             "byte 1: the number is beyond the range of a double, and is written as null",
		`{"é":"\u00e9"}`:      "byte 7: the character is written in another way",
		`{"a":1,"b":2,"a":3}`: "byte 13: a name that stands twice is written once",
		`{"a":1,"1":2}`:       "byte 7: names that are array indexes are written first, in ascending order",
		`{"1":1,"1":2}`:       "byte 7: a name that stands twice is written once",
		"[\"\xff\"]":          "byte 2: bytes that are not UTF-8 are replaced",
		"{" + strings.Join(many, ",") + `,"kkk":2}`: "a name that stands twice is written once",
	} {
		err := ecmajson.Stable([]byte(text))
		var d *ecmajson.Difference
		require.ErrorAs(t, err, &d, text)
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, ecmajson.Stable([]byte("{"+strings.Join(many, ",")+"}")))
	// A name of an object may come again in one that lies within, or beside.
	require.NoError(t, ecmajson.Stable([]byte(`{"a":{"a":{"a":1},"b":2},"b":[{"a":1},{"a":1}]}`)))
}

func TestWhatIsNoJSONIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "{", "[", `"`, `"\`, `"\u12`, `"\x"`, `"\u12g4"`, "\"\n\"", "{}{}", "[1,]", `{"a":1,}`, `{"a"}`, `{a:1}`, `{1:1}`, "01", "-", "1.", ".5", "1e", "+1",
		"tru", "nulL", "\ufeff{}", "'a'", "[1 2]", `{"a" 1}`, "NaN", "\v1", " [1,", strings.Repeat("[", 2000) + strings.Repeat("]", 2000), "{} x", " 1 x",
	} {
		require.ErrorIs(t, ecmajson.Stable([]byte(text)), ecmajson.ErrInvalid, "%q", text)
		got, err := ecmajson.Append([]byte("x"), []byte(text))
		require.ErrorIs(t, err, ecmajson.ErrInvalid, "%q", text)
		require.Equal(t, "x", string(got))
	}
}

// check is what holds of every text.
func check(t require.TestingT, text []byte) {
	written, err := ecmajson.Append(nil, text)
	stable := ecmajson.Stable(text)
	if err != nil {
		require.ErrorIs(t, err, ecmajson.ErrInvalid)
		require.ErrorIs(t, stable, ecmajson.ErrInvalid)
		return
	}
	require.True(t, json.Valid(text))
	require.Equal(t, string(written) == string(text), stable == nil, "%q is written %q: %v", text, written, stable)
	if d := (*ecmajson.Difference)(nil); errors.As(stable, &d) {
		require.Less(t, d.Offset, len(text))
		require.GreaterOrEqual(t, d.Offset, 0)
	}
	require.NoError(t, ecmajson.Stable(written), "%q", written)
	var a, b any
	if json.Unmarshal(text, &a) == nil && json.Unmarshal(written, &b) == nil && !strings.Contains(string(text), "\\u") {
		require.Equal(t, a, b, "the value is the same")
	}
}

// document draws JSON in every way in which it may be written.
func document(t *rapid.T) []byte {
	space := rapid.SampledFrom([]string{"", "", "", "", " ", "\n\t"})
	char := rapid.OneOf(
		rapid.SampledFrom([]string{`\/`, `\"`, `\\`, `\n`, `\u0000`, `\u001F`, `\u000a`, `\ud800`, `\uDBFF`, `\udc00`, `\ude00`, `\u2028`, "\u2028", "<", "&", "é", "😀", "\x7f", `\u007f`}),
		rapid.StringMatching(`[a-c0-9]`),
	)
	str := rapid.Custom(func(t *rapid.T) string {
		return `"` + strings.Join(rapid.SliceOfN(char, 0, 4).Draw(t, "chars"), "") + `"`
	})
	number := rapid.OneOf(
		rapid.SampledFrom([]string{"0", "-0", "1.0", "1e21", "1E-7", "1e400", "9007199254740993", "0.1000", "123456789.125e3", "5e-324"}),
		rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?`),
		rapid.Custom(func(t *rapid.T) string {
			f := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return "1"
			}
			b, _ := json.Marshal(f)
			return string(b)
		}),
	)
	name := rapid.OneOf(str, rapid.SampledFrom([]string{`"1"`, `"0"`, `"10"`, `"2"`, `"01"`, `"4294967295"`, `"4294967294"`, `"a"`, `"\u0061"`}))
	var value func(depth int) string
	value = func(depth int) string {
		s := func() string { return space.Draw(t, "space") }
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth == 0 && kind > 3 {
			kind = 0
		}
		switch kind {
		case 0:
			return s() + str.Draw(t, "string") + s()
		case 1, 2:
			return s() + number.Draw(t, "number") + s()
		case 3:
			return s() + rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "literal") + s()
		}
		parts := make([]string, rapid.IntRange(0, 5).Draw(t, "length"))
		for i := range parts {
			if parts[i] = value(depth - 1); kind == 5 {
				parts[i] = s() + name.Draw(t, "name") + s() + ":" + parts[i]
			}
		}
		if kind == 5 {
			return s() + "{" + s() + strings.Join(parts, ",") + "}" + s()
		}
		return s() + "[" + s() + strings.Join(parts, ",") + "]" + s()
	}
	return []byte(value(3))
}

func TestStableIsWhatAppendLeavesAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { check(t, document(t)) })
}

func FuzzECMAJSON(f *testing.F) {
	for _, tt := range cases {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { check(t, text) })
}

func BenchmarkStable(b *testing.B) {
	data := []byte(`{"release_id":"rel_abc123def456","n":[1,2.5,3e-7],"title":"` + strings.Repeat("x", 900) + `"}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := ecmajson.Stable(data); err != nil {
			b.Fatal(err)
		}
	}
}
