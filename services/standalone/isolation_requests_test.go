//go:build !race

package standalone_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The fields of requests that name something, by name, or by full name where the name alone does
// not say it. Those of several kinds are asked for with each.
var idFields = map[string][]kind{
	"account_id": {anAccount}, "webhook_id": {aWebhook}, "delivery_id": {aDelivery}, "delivery_ids": {aDelivery}, "event_id": {anEvent},
	"api_key_id": {anAPIKey}, "client_key_id": {aClientKey}, "replay_id": {aReplay}, "uuid": {aUUID}, "number": {aNumber}, "call_id": {aCall},
	"sequence": {aSequence}, "idempotency_key": {anIdempotency},
	"postrider.v1.Account.id": {anAccount}, "postrider.v1.Account.number": {}, "postrider.v1.ApiKey.id": {anAPIKey}, "postrider.v1.Webhook.id": {aWebhook}, "postrider.v1.EventInput.id": {aGivenID},
	"postrider.v1.EventType.name": {anEventType}, "postrider.v1.GetEventTypeRequest.name": {anEventType}, "postrider.v1.DeleteEventTypeRequest.name": {anEventType},
	"postrider.v1.LookUpRequest.id":          {anEvent, aDelivery, anAttempt, aWebhook, aUUID, aCall, anIdempotency, aGivenID, aTrace, aReplay},
	"postrider.v1.GetFlightRecordRequest.id": {anEvent, aDelivery, anAttempt},
}

// The fields that name nothing, with what a request needs in them; empty: it is left out.
var plainFields = map[string]string{
	"url": "https://receiver.example.com/", "event_types": "release.*", "type": theirType, "data": theirData, "scopes": "read", "public_key": "",
	"source": "/mine", "display_name": "Mine", "event_type": theirType, "time_zone": "Europe/Berlin",
	"page_token": "", // see TestIsolation's page tokens
	"etag":       "", "ordering": "", "secret": "", "secret_kind": "", "method": "", "filter": "", "profile": "", "headers": "", "annotations": "", "state_reason": "",
	"labels": "", "extensions": "", "content_type": "", "ordering_key": "", "subdomain": "", "account_class": "", "algorithm": "", "outcome": "",
	"cause": "", "group": "", "description": "", "example": "", "example_content_type": "", "schema": "", "tag": "",
}

// spans is the time that is asked for: one that does not move with the clock, and has everything in it.
var spans = map[protoreflect.Name]time.Time{
	"start_time": time.Now().Add(-time.Hour).Truncate(time.Hour),
	"end_time":   time.Now().Add(2 * time.Hour).Truncate(time.Hour),
}

// opened are the messages whose fields are filled too; Google's and these others are left out.
var (
	opened = []protoreflect.Name{"Account", "ApiKey", "Webhook", "EventInput", "EventType", "EventSelection", "DeadLetterSelection", "PublishEventRequest"}
	closed = []protoreflect.Name{"RetrySchedule", "ProfileOptions", "Verification", "Handshake", "WebhookSecret"}
)

// choice says how to fill a request.
type choice struct {
	only  string // path of the one field that names something; empty: all of them
	own   bool   // account ids are left out, so that the caller's own is meant
	bools bool   // all flags are set
	n     int    // which of the things
}

// filling fills requests of one method.
type filling struct {
	t     *testing.T
	ids   things
	how   choice
	paths []string // of the fields that name something
	most  int      // how many things the field with the most can name
	flags bool     // it has some
}

// requestOf is a request of the method as chosen.
func requestOf(t *testing.T, m protoreflect.MethodDescriptor, ids things, how choice) (*filling, proto.Message) {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	require.NoError(t, err)
	r, msg := &filling{t: t, ids: ids, how: how}, mt.New()
	r.fill(msg, "")
	return r, msg.Interface()
}

// choices are the ways to fill a method's request: everything that it can name, each alone, with and
// without the account, with and without flags.
func choices(t *testing.T, m protoreflect.MethodDescriptor, ids things) []choice {
	t.Helper()
	r, _ := requestOf(t, m, ids, choice{})
	base := []choice{{own: true}, {}}
	if len(r.paths) > 2 {
		for _, path := range r.paths {
			base = append(base, choice{only: path, own: !strings.HasSuffix(path, "account_id")})
		}
	}
	var out []choice
	for _, c := range base {
		for n := range max(r.most, 1) {
			c.n = n
			out = append(out, c)
			if c.bools = r.flags; c.bools && n == 0 {
				out = append(out, c)
			}
			c.bools = false
		}
	}
	return out
}

func (r *filling) fill(m protoreflect.Message, path string) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		at := path + string(fd.Name())
		if kinds, ok := ruleFor(idFields, fd); ok {
			r.name(m, fd, at, kinds)
			continue
		}
		switch fd.Kind() { //nolint:exhaustive // numbers and enums name nothing
		case protoreflect.MessageKind:
			r.open(m, fd, at)
		case protoreflect.BoolKind:
			r.flags = true
			if r.how.bools && !fd.IsList() {
				m.Set(fd, protoreflect.ValueOfBool(true))
			}
		case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.Int64Kind, protoreflect.Uint64Kind:
			text, ok := ruleFor(plainFields, fd)
			require.True(r.t, ok, "%s: say in idFields what it names, or in plainFields that it names nothing", fd.FullName())
			if text != "" {
				put(m, fd, text)
			}
		}
	}
}

func (r *filling) open(m protoreflect.Message, fd protoreflect.FieldDescriptor, at string) {
	name := fd.Message().Name()
	switch {
	case fd.IsMap():
		_, ok := ruleFor(plainFields, fd)
		require.True(r.t, ok, "%s: say in plainFields that it names nothing", fd.FullName())
	case fd.Message().ParentFile().Package() == "google.protobuf":
		if t, ok := spans[fd.Name()]; ok {
			m.Set(fd, protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()))
		}
	case slices.Contains(closed, name):
	case fd.IsList():
		require.Contains(r.t, opened, name, "%s: say whether to open it", fd.FullName())
		list := m.Mutable(fd).List()
		one := list.NewElement()
		r.fill(one.Message(), at+".")
		list.Append(one)
	default:
		require.Contains(r.t, opened, name, "%s: say whether to open it", fd.FullName())
		r.fill(m.Mutable(fd).Message(), at+".")
	}
}

// name sets a field to the id of a thing.
func (r *filling) name(m protoreflect.Message, fd protoreflect.FieldDescriptor, at string, kinds []kind) {
	if len(kinds) == 0 {
		return
	}
	r.paths = append(r.paths, at)
	r.most = max(r.most, len(r.ids.of(kinds...)))
	isAccount := strings.HasSuffix(at, "account_id")
	if r.how.only != "" && r.how.only != at || r.how.own && isAccount {
		return
	}
	all := r.ids.of(kinds...)
	put(m, fd, all[r.how.n%len(all)])
}

func put(m protoreflect.Message, fd protoreflect.FieldDescriptor, text string) {
	var v protoreflect.Value
	switch fd.Kind() { //nolint:exhaustive // ids are of these kinds
	case protoreflect.BytesKind:
		v = protoreflect.ValueOfBytes([]byte(text))
	case protoreflect.Int64Kind:
		n, _ := strconv.ParseInt(text, 10, 64)
		v = protoreflect.ValueOfInt64(n)
	case protoreflect.Uint64Kind:
		n, _ := strconv.ParseUint(text, 10, 64)
		v = protoreflect.ValueOfUint64(n)
	default:
		v = protoreflect.ValueOfString(text)
	}
	if fd.IsList() {
		m.Mutable(fd).List().Append(v)
		return
	}
	m.Set(fd, v)
}

// ruleFor looks a field up by its full name, then by its name.
func ruleFor[T any](rules map[string]T, fd protoreflect.FieldDescriptor) (T, bool) {
	if v, ok := rules[string(fd.FullName())]; ok {
		return v, true
	}
	v, ok := rules[string(fd.Name())]
	return v, ok
}
