package cli

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/test/fixture/receivertest"
)

func TestAnEventIsPublishedAsTheFlagsSay(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := receivertest.New(t)
	s.ok(t, "webhooks", "create", r.URL, "--events", "*")
	file := filepath.Join(t.TempDir(), "order.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"total":  120}`), 0o600))

	out := s.ok(t, "publish", "order.paid", "--data", "@"+file, "--idempotency-key", "ord_1", "--label", "project_id=12")
	require.Regexp(t, `(?m)^event +evt_\w+$`, out)
	require.Regexp(t, `(?m)^duplicate +false$`, out)
	require.Equal(t, `{"total":  120}`, string(r.Next(t).Body), "byte for byte")
	require.Equal(t, true, s.json(t, "publish", "order.paid", "--data", "@"+file, "--idempotency-key", "ord_1", "--label", "project_id=12")["duplicate"])
	s.fails(t, exitRefused, "IDEMPOTENCY_CONFLICT", "publish", "order.paid", "--data", "other", "--content-type", "text/plain", "--idempotency-key", "ord_1")

	s.reading("plain text").ok(t, "publish", "note.taken", "--data", "-", "--content-type", "text/plain")
	got := r.Next(t)
	require.Equal(t, "plain text", string(got.Body))
	require.Equal(t, "text/plain", got.Header.Get("Content-Type"))
	s.ok(t, "publish", "a.b")
	require.Equal(t, "{}", string(r.Next(t).Body))

	s.ok(t, "publish", "later.on", "--deliver-at", "+1h", "--id", "1", "--source", "/shop", "--time", "2026-11-21T18:00:00Z")
	s.fails(t, exitRefused, "event.type: must be", "publish", "a b")
	s.fails(t, exitRefused, "event.data: ", "publish", "a.b", "--data", "{")
	for words, args := range map[string][]string{
		"name the event's type":      {"publish"},
		"--file goes with no TYPE":   {"publish", "a.b", "--file", "x"},
		`--label: "x" is not name=`:  {"publish", "a.b", "--label", "x"},
		`--label: "x" is given twic`: {"publish", "a.b", "--label", "x=1", "--label", "x=2"},
		"--deliver-at":               {"publish", "a.b", "--deliver-at", "tomorrow"},
		"--time":                     {"publish", "a.b", "--time", "-5"},
		"--data: open":               {"publish", "a.b", "--data", "@/nowhere"},
		"accepts at most 1 arg":      {"publish", "a.b", "c.d"},
		"--file: open":               {"publish", "--file", "/nowhere"},
	} {
		s.fails(t, exitUsage, words, args...)
	}
}

func TestTheLinesOfAFileAreEachAnswered(t *testing.T) {
	t.Parallel()
	s := running(t)
	r := receivertest.New(t)
	s.ok(t, "webhooks", "create", r.URL, "--events", "*")
	lines := `{"type":"order.paid","data":{"total":  1.0},"idempotency_key":"k1"}

{"type":"file.sent","data_base64":"` + base64.StdEncoding.EncodeToString([]byte{0, 1}) + `","content_type":"application/octet-stream"}
{"type":"order.paid","data":{"total":  1.0},"idempotency_key":"k1"}
`
	run := s.reading(lines).run(t, "publish", "--file", "-", "-o", "json")
	require.Equal(t, exitOK, run.code, run.err)
	require.Contains(t, run.err, "3 stored, 1 of them duplicates; 0 refused")
	tags := map[string]bool{}
	for line := range strings.Lines(run.out) {
		var v struct {
			Tag     string `json:"tag"`
			Verdict struct {
				Receipt struct {
					EventID string `json:"event_id"`
				} `json:"receipt"`
			} `json:"verdict"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		require.Regexp(t, `^evt_`, v.Verdict.Receipt.EventID)
		tags[v.Tag] = true
	}
	require.Equal(t, map[string]bool{"1": true, "3": true, "4": true}, tags, "lines are numbered as they stand")
	r.AwaitCount(t, 2)

	file := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(`{"type":"a.b"}
{"type":"a b"}
{"type":"a.c","data":[1]}
`), 0o600))
	refused := s.fails(t, exitRefused, "line 2 refused: event.type: must be", "publish", "--file", file)
	require.Contains(t, refused.err, "2 stored, 0 of them duplicates; 1 refused")
	require.Regexp(t, `(?m)^1 +evt_\w+ +\d+ +false$`, refused.out)
	require.Regexp(t, `(?m)^3 +evt_\w+ +\d+ +false$`, refused.out)
	require.Empty(t, s.run(t, "publish", "--file", file, "--quiet").out)

	broken := s.reading("{\"type\":\"a.b\"}\n{\"typ\":\"a.b\"}\n{\"type\":\"a.b\"}\n").fails(t, exitUsage, "line 2: is no event", "publish", "--file", "-")
	require.Contains(t, broken.err, "1 stored", "what stands before the mistake is stored and answered")
	s.with("POSTRIDER_KEY", "nonsense").reading(lines).fails(t, exitRefused, "KEY_INVALID", "publish", "--file", "-")
}

func TestErrorsAreJSONForPrograms(t *testing.T) {
	t.Parallel()
	s := running(t)
	for name, c := range map[string]struct {
		args []string
		want failure
	}{
		"refused by a server": {[]string{"publish", "a b"}, failure{
			Kind: "invalid", Reason: "INVALID_ARGUMENT", ExitCode: exitRefused, Violations: []violation{{Field: "event.type"}},
		}},
		"not there":      {[]string{"deliveries", "show", "dlv_none"}, failure{Kind: "not_found", ExitCode: exitNotFound}},
		"a wrong call":   {[]string{"publish", "a.b", "--file", "x"}, failure{ExitCode: exitUsage}},
		"an unknown key": {[]string{"publish", "a.b", "--key", "nonsense"}, failure{Kind: "unauthenticated", Reason: "KEY_INVALID", ExitCode: exitRefused}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := s.run(t, append(c.args, "-o", "json")...)
			require.Equal(t, c.want.ExitCode, run.code, run.err)
			var got struct {
				Error failure `json:"error"`
			}
			require.NoError(t, json.Unmarshal([]byte(run.err), &got), run.err)
			require.Equal(t, c.want.ExitCode, got.Error.ExitCode)
			require.Equal(t, c.want.Kind, got.Error.Kind)
			require.NotEmpty(t, got.Error.Message)
			if c.want.Reason != "" {
				require.Equal(t, c.want.Reason, got.Error.Reason)
			}
			for i, v := range c.want.Violations {
				require.Equal(t, v.Field, got.Error.Violations[i].Field)
				require.NotEmpty(t, got.Error.Violations[i].Rule)
			}
		})
	}
}

func TestManyLinesGoThrough(t *testing.T) {
	t.Parallel()
	s := running(t)
	const n = 5000
	run := s.reading(strings.Repeat(`{"type":"a.b","data":1}`+"\n", n)).run(t, "publish", "--file", "-")
	require.Equal(t, exitOK, run.code, run.err)
	require.Contains(t, run.err, "5000 stored")
	require.Equal(t, n+1, strings.Count(run.out, "\n"))
}

func FuzzParseLine(f *testing.F) {
	f.Add(`{"type":"order.paid","data":{"total":  120},"idempotency_key":"ord_1","labels":{"a":"b"}}`)
	f.Add(`{"type":"a","data_base64":"AAE=","time":"2026-11-21T18:00:00Z"}`)
	f.Add(`{"type":"a","data":1}{"type":"b"}`)
	f.Add(`null`)
	f.Add(`{}}`)
	f.Fuzz(func(t *testing.T, line string) {
		req, err := parseLine([]byte(line))
		if err != nil {
			return
		}
		require.True(t, json.Valid([]byte(line)))
		var raw struct {
			Data       *json.RawMessage `json:"data"`
			DataBase64 []byte           `json:"data_base64"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &raw))
		if raw.Data != nil && raw.DataBase64 == nil {
			require.Contains(t, line, string(req.GetEvent().GetData()), "data are sent as they are written")
		}
	})
}

func FuzzParseCatalogue(f *testing.F) {
	f.Add(`{"event_types":[{"name":"order.paid","group":"Orders","example":{"total":  1.0}}]}`)
	f.Add(`{"event_types":[{"name":"a","example":"e30=","etag":"1","create_time":"2026-11-21T18:00:00Z"}]}`)
	f.Add(`{"event_types":[null]}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseCatalogue([]byte(text))
		if err != nil {
			return
		}
		require.NotEmpty(t, list)
		for _, e := range list {
			require.NotEmpty(t, e.GetName())
			require.Empty(t, e.GetEtag())
		}
	})
}
