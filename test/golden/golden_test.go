// Package golden_test keeps the bytes of every message that streams and buckets store, as each
// version wrote them, and reads them with the version at hand: what lies in a stream outlives a
// deploy, and for its time two versions read what either wrote.
//
// A directory of testdata/golden is a version. The last one is what is being developed, and is
// made anew by `go test ./golden -update`, until it is named in released; from then on it is never
// changed, and a change of the messages begins the next.
package golden_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// released are the versions whose bytes lie in somebody's streams.
var released = []string{}

// developed is the version in development.
const developed = "v1"

const root = "testdata/golden"

var update = flag.Bool("update", false, "write the golden bytes of the version in development")

// stored are the messages that are stored, each with its fields filled; a message with a oneof is
// there once for each alternative. The key is the file's name.
func stored(t *testing.T) map[string]proto.Message {
	t.Helper()
	out := map[string]proto.Message{}
	messages := recordv1.File_postrider_record_v1_record_proto.Messages()
	for i := range messages.Len() {
		d := messages.Get(i)
		name := string(d.Name())
		if d.Oneofs().Len() == 0 || d.Oneofs().Get(0).IsSynthetic() {
			out[name] = fill(d, nil)
			continue
		}
		fields := d.Oneofs().Get(0).Fields()
		for j := range fields.Len() {
			out[name+"."+string(fields.Get(j).Name())] = fill(d, fields.Get(j))
		}
	}
	return out
}

func TestEveryStoredMessageIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := stored(t)
	if *update {
		require.NotContains(t, released, developed, "a released version never changes: begin the next")
		write(t, want)
	}
	versions, err := os.ReadDir(root)
	require.NoError(t, err)
	require.NotEmpty(t, versions)
	for _, version := range versions {
		files, err := filepath.Glob(filepath.Join(root, version.Name(), "*.binpb"))
		require.NoError(t, err)
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".binpb")
			t.Run(version.Name()+"/"+name, func(t *testing.T) {
				t.Parallel()
				got := read(t, file, want, name)
				requireKnown(t, got.ProtoReflect())
				text, err := os.ReadFile(strings.TrimSuffix(file, ".binpb") + ".txtpb")
				require.NoError(t, err)
				meant := got.ProtoReflect().New().Interface()
				require.NoError(t, prototext.Unmarshal(text, meant))
				require.True(t, proto.Equal(meant, got), "the bytes say %v", got)
			})
		}
	}
}

// read decodes a golden file. A message that this version does not have any more must not be in
// anybody's streams.
func read(t *testing.T, file string, messages map[string]proto.Message, name string) proto.Message {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, messages, name, "a message that was stored is gone")
	got := messages[name].ProtoReflect().New().Interface()
	require.NoError(t, proto.Unmarshal(raw, got))
	return got
}

// requireKnown fails if a golden has a field that this version does not know, at any depth.
func requireKnown(t *testing.T, m protoreflect.Message) {
	t.Helper()
	require.Empty(t, m.GetUnknown(), "%s has lost a field", m.Descriptor().FullName())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				requireKnown(t, v.List().Get(i).Message())
			}
		case f.Message() != nil && !f.IsList():
			requireKnown(t, v.Message())
		}
		return true
	})
}

func TestEveryStoredMessageHasItsGoldenBytes(t *testing.T) {
	t.Parallel()
	if slices.Contains(released, developed) || *update {
		return
	}
	want := stored(t)
	for name, m := range want {
		file := filepath.Join(root, developed, name+".binpb")
		require.FileExists(t, file, "a stored message without golden bytes: go test ./golden -update")
		require.True(t, proto.Equal(m, read(t, file, want, name)), "%s has a field that its golden bytes lack: go test ./golden -update", name)
	}
}

func TestWhatALaterVersionWroteIsKept(t *testing.T) {
	t.Parallel()
	later := protowire.AppendTag(nil, 1900, protowire.BytesType)
	later = protowire.AppendString(later, "of a later version")
	for name, m := range stored(t) {
		raw, err := proto.Marshal(m)
		require.NoError(t, err)
		got := m.ProtoReflect().New().Interface()
		require.NoError(t, proto.Unmarshal(append(raw, later...), got), name)
		again, err := proto.Marshal(got)
		require.NoError(t, err)
		require.Contains(t, string(again), string(later), name)
	}
}

func write(t *testing.T, messages map[string]proto.Message) {
	t.Helper()
	dir := filepath.Join(root, developed)
	require.NoError(t, os.MkdirAll(dir, 0o750))
	for name, m := range messages {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		require.NoError(t, err)
		if before, err := os.ReadFile(filepath.Join(dir, name+".binpb")); err == nil && bytes.Equal(before, raw) {
			continue // The form of the text changes with each build.
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".binpb"), raw, 0o600))
		text, err := prototext.MarshalOptions{Multiline: true}.Marshal(m)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".txtpb"), text, 0o600))
	}
}

// maxDepth ends messages that hold themselves.
const maxDepth = 6

// fill makes a message with every field set, to values that tell the fields apart. Of a oneof it
// sets the chosen field, or else the first.
func fill(d protoreflect.MessageDescriptor, chosen protoreflect.FieldDescriptor) proto.Message {
	m := dynamicpb.NewMessage(d)
	set(m, chosen, 0)
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err) // the values are ours
	}
	out := generated(d)
	if err := proto.Unmarshal(raw, out); err != nil {
		panic(err)
	}
	return out
}

func set(m protoreflect.Message, chosen protoreflect.FieldDescriptor, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if chosen != nil && o.Fields().ByName(chosen.Name()) != nil && f.Name() != chosen.Name() ||
				(chosen == nil || o.Fields().ByName(chosen.Name()) == nil) && f.Index() != o.Fields().Get(0).Index() {
				continue
			}
		}
		if f.Message() != nil && depth == maxDepth {
			continue
		}
		switch {
		case f.IsMap():
			key := protoreflect.ValueOfString("key").MapKey()
			m.Mutable(f).Map().Set(key, value(m.NewField(f).Map().NewValue, f.MapValue(), depth))
		case f.IsList():
			m.Mutable(f).List().Append(value(m.NewField(f).List().NewElement, f, depth))
		default:
			m.Set(f, value(func() protoreflect.Value { return m.NewField(f) }, f, depth))
		}
	}
}

// value is what a field is filled with.
func value(fresh func() protoreflect.Value, f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	n := int64(f.Number())
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		v := fresh()
		set(v.Message(), nil, depth+1)
		return v
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(f.Name()))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 0xff, byte(n)})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(1000 + n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(1000 + n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1<<40 + uint64(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(1<<31 + n)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n) + 0.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) + 0.5)
	}
	panic("a kind that nobody knows")
}

// generated is an empty message of the generated type.
func generated(d protoreflect.MessageDescriptor) proto.Message {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // it was just described
	}
	return t.New().Interface()
}
