//go:build e2e

package ecmajson_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/postrider/postrider/pkg/ecmajson"
)

// script answers each line, base64 of a text, with base64 of what Node makes of it.
const script = `require('readline').createInterface({input: process.stdin}).on('line', (line) => {
  let out = '!';
  try { out = Buffer.from(JSON.stringify(JSON.parse(Buffer.from(line, 'base64').toString('utf8')))).toString('base64'); } catch (e) {}
  console.log(out);
});`

// The real thing: thousands of documents, each written in odd ways, through a real Node.
func TestNodeWritesTheSame(t *testing.T) {
	t.Parallel()
	const documents = 20_000
	texts := make([][]byte, 0, documents+len(cases))
	for _, tt := range cases {
		texts = append(texts, []byte(tt.text))
	}
	draw := rapid.Custom(document)
	for seed := range documents {
		texts = append(texts, draw.Example(seed))
	}
	var in bytes.Buffer
	for _, text := range texts {
		in.WriteString(base64.StdEncoding.EncodeToString(text) + "\n")
	}
	cmd := exec.CommandContext(t.Context(), "node", "-e", script)
	cmd.Stdin = &in
	out, err := cmd.Output()
	require.NoError(t, err, "this test runs a real Node: install version 20 or newer")
	answers := bufio.NewScanner(bytes.NewReader(out))
	answers.Buffer(nil, 16<<20)
	changed := 0
	for _, text := range texts {
		require.True(t, answers.Scan())
		require.NotEqual(t, "!", answers.Text(), "%s", text)
		want, err := base64.StdEncoding.DecodeString(answers.Text())
		require.NoError(t, err)
		got, err := ecmajson.Append(nil, text)
		require.NoError(t, err, "%s", text)
		require.Equal(t, string(want), string(got), "%s", text)
		require.Equal(t, bytes.Equal(want, text), ecmajson.Stable(text) == nil, "%s", text)
		if !bytes.Equal(want, text) {
			changed++
		}
	}
	t.Log(strings.Join([]string{"documents", "of them not stable"}, ", "), len(texts), changed)
}
