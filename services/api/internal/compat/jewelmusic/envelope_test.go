package jewelmusic

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/pkg/fault"
)

func TestABodyIsReadOrItsMemberIsNamed(t *testing.T) {
	t.Parallel()
	in := &webhookInput{}
	require.NoError(t, parseJSON([]byte(" \n"), in), "nothing changes nothing")
	require.Equal(t, &webhookInput{}, in)
	require.NoError(t, parseJSON([]byte(`{"url":"u","more":{"a":[1]},"headers":{"a":"b"}}`), in))
	require.Equal(t, "u", *in.URL)
	for body, field := range map[string]string{`{"url":5}`: "url", `{"headers":{"a":5}}`: "headers", `[]`: "body", `{"timeout":1.5}`: "timeout"} {
		e, ok := fault.As(parseJSON([]byte(body), &webhookInput{}))
		require.True(t, ok, body)
		require.Len(t, e.Violations, 1, body)
		require.Equal(t, field, e.Violations[0].Field, body)
	}
	e, ok := fault.As(parseJSON([]byte(`{`), in))
	require.True(t, ok)
	require.Equal(t, "BAD_REQUEST", e.Reason)
}

func TestFieldsAreNamedInTheWordsOfThisAPI(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]string{
		"webhook.url": "url", "webhook.event_types[3]": "events", `webhook.headers["A[b"]`: "headers", "secret": "secret", "anything": "anything",
	} {
		require.Equal(t, want, fieldOf(field))
	}
}

func FuzzABodyIsReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"url":"https://example.com","events":["a"],"timeout":1000,"headers":{"a":"b"},"active":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		in := &webhookInput{}
		if err := parseJSON(body, in); err != nil {
			if _, ok := fault.As(err); !ok {
				t.Fatalf("not an answer: %v", err)
			}
			return
		}
		_ = in.check(profilePage)
		w, paths := in.webhook(nil)
		if w == nil || len(paths) > 5 {
			t.Fatal("too much")
		}
		if _, err := json.Marshal(in); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzAQueryIsReadOrRefused(f *testing.F) {
	f.Add("page=2&perPage=10&status=failed&startDate=2026-01-01&active=true")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		page, perPage, _ := pageOf(q)
		if page < 1 || page > maxPage || perPage < 1 || perPage > maxPerPage {
			t.Fatalf("page %d of %d", page, perPage)
		}
		keep, _ := webhookFilter(q)
		keep(nil)
		if req, _ := deliveryFilter(q); req == nil {
			t.Fatal("no request")
		}
	})
}
