// The race detector makes tens of thousands of calls ten times as slow; what is asked here is what is
// answered, not what happens at once.

//go:build !race

package standalone_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
	"github.com/postrider/postrider/services/api"
	"github.com/postrider/postrider/services/ingest"
	"github.com/postrider/postrider/services/standalone"
	"github.com/postrider/postrider/test/fixture/receivertest"
)

// caller is somebody who calls.
type caller struct {
	name, credential string
	client           clientKey // that signs what has to be signed
}

// isolation is a deployment with an account that has one of everything, and callers of another.
type isolation struct {
	svc     *standalone.Service
	theirs  *filled
	nothing things
	judge   *judge
	mine    *user
	callers []caller
	methods []protoreflect.MethodDescriptor
	rules   map[string]postrider.Scope
}

// TestNobodySeesAnotherAccountsThings asks every method, route and page as a caller of one account for
// the things of another, and wants the answer that there would be if those did not exist. What there is
// to ask comes from the server: a method, a route, a page or a field that the tables do not know fails.
func TestNobodySeesAnotherAccountsThings(t *testing.T) {
	t.Parallel()
	s := isolate(t)
	before, sent := s.snapshot(t), s.theirs.good.Count()
	// What only reads comes first: as long as nothing changes, answers have to be the same to the letter.
	for _, change := range []bool{false, true} {
		s.walkMethods(t, change)
		s.walkRoutes(t, change)
		s.walkPages(t, change)
	}
	s.pageTokens(t)
	for asked, after := range s.snapshot(t) {
		assert.Equal(t, before[asked], after, "something of the other account has changed: %s", asked)
	}
	require.Equal(t, sent, s.theirs.good.Count(), "something was sent to the other account's receiver")
	s.ownersAreTold(t)
}

func isolate(t *testing.T) *isolation {
	t.Helper()
	cfg := config(t.TempDir())
	cfg.Dispatcher.RetryTimeScale = 0.01
	cfg.API.JewelMusicLimit, cfg.API.VerifyLimit = 1_000_000, 1_000_000
	svc, _ := start(t, cfg)
	s := &isolation{svc: svc, theirs: fill(t, svc), rules: api.Rules()}
	maps.Copy(s.rules, ingest.Rules())
	s.nothing = s.theirs.ids.nothing()
	s.judge = newJudge(s.theirs.ids, s.nothing, s.theirs.secrets)
	s.mine = admin(t, svc).newAccount(t)
	s.mine.webhook(t, receivertest.New(t).URL)
	s.mine.publish(t, "", `{}`)
	s.mine.awaitStates(t, 1, delivered)
	client := s.mine.uploadClientKey(t)
	for _, scope := range []postrider.Scope{postrider.ScopePublish, postrider.ScopeManage, postrider.ScopeRead, postrider.ScopePayloads} {
		made, err := s.mine.accounts.CreateApiKey(s.mine.ctx(t), &postriderv1.CreateApiKeyRequest{Scopes: []string{string(scope)}})
		require.NoError(t, err)
		s.callers = append(s.callers, caller{"a key to " + string(scope), made.GetSecret(), client})
	}
	for _, readOnly := range []bool{false, true} {
		made, err := s.mine.accounts.CreatePortalLink(s.mine.ctx(t), &postriderv1.CreatePortalLinkRequest{ReadOnly: readOnly})
		require.NoError(t, err)
		s.callers = append(s.callers, caller{map[bool]string{false: "a portal link", true: "a portal link to read"}[readOnly], made.GetToken(), client})
	}
	s.methods = served(t, s.mine)
	return s
}

// served are the methods that the server says it has, but for gRPC's own.
func served(t *testing.T, u *user) []protoreflect.MethodDescriptor {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ask, err := reflectionv1.NewServerReflectionClient(u.conn).ServerReflectionInfo(ctx)
	require.NoError(t, err)
	require.NoError(t, ask.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	list, err := ask.Recv()
	require.NoError(t, err)
	var out []protoreflect.MethodDescriptor
	for _, each := range list.GetListServicesResponse().GetService() {
		if strings.HasPrefix(each.GetName(), "grpc.") {
			continue
		}
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(each.GetName()))
		require.NoError(t, err)
		svc, ok := d.(protoreflect.ServiceDescriptor)
		require.True(t, ok)
		for i := range svc.Methods().Len() {
			out = append(out, svc.Methods().Get(i))
		}
	}
	require.Greater(t, len(out), 50)
	return out
}

// path is a method's name as gRPC has it.
func path(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// changes reports whether a method changes something.
func (s *isolation) changes(t *testing.T, m protoreflect.MethodDescriptor) bool {
	t.Helper()
	scope, ok := s.rules[path(m)]
	require.True(t, ok, "%s has no scope", path(m))
	return scope != postrider.ScopeRead && !strings.HasPrefix(string(m.Name()), "List")
}

// call calls a method, whatever its kind, and returns all that is answered.
func (s *isolation) call(t *testing.T, credential string, m protoreflect.MethodDescriptor, req proto.Message) reply {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+credential, "x-request-id", "isolation")
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	stream, err := s.mine.conn.NewStream(ctx, desc, path(m))
	require.NoError(t, err)
	if err := stream.SendMsg(req); err == nil {
		require.NoError(t, stream.CloseSend())
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	require.NoError(t, err)
	var all []string
	for {
		msg := out.New().Interface()
		err := stream.RecvMsg(msg)
		if errors.Is(err, io.EOF) {
			return reply{text: strings.Join(all, "\n")}
		}
		if err != nil {
			return reply{failed: true, text: strings.Join(append(all, encoded(t, fault.Status(err).Proto())), "\n")}
		}
		all = append(all, encoded(t, msg))
		if !desc.ServerStreams {
			return reply{text: all[0]}
		}
	}
}

func encoded(t *testing.T, m proto.Message) string {
	t.Helper()
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	require.NoError(t, err)
	return compact(raw)
}

// walkMethods asks every method, either those that read or those that change something.
func (s *isolation) walkMethods(t *testing.T, change bool) {
	t.Helper()
	for _, m := range s.methods {
		if s.changes(t, m) != change {
			continue
		}
		for _, how := range choices(t, m, s.theirs.ids) {
			_, theirs := requestOf(t, m, s.theirs.ids, how)
			_, none := requestOf(t, m, s.nothing, how)
			for _, c := range s.callers {
				s.compare(t, change, c.name+" calls", rpcAsk(t, m, theirs), rpcAsk(t, m, none),
					func(a *ask) reply { return s.call(t, c.credential, m, a.message) })
			}
		}
	}
}

// rpcAsk is a call of a method.
func rpcAsk(t *testing.T, m protoreflect.MethodDescriptor, req proto.Message) *ask {
	t.Helper()
	return &ask{method: "", path: path(m), body: encoded(t, req), message: req}
}

// compare asks about the other account's things and about nothing, and wants the same answers. What
// names nothing is asked once.
func (s *isolation) compare(t *testing.T, change bool, what string, theirs, none *ask, send func(*ask) reply) {
	t.Helper()
	a := send(theirs)
	if leaks := s.judge.leaks(a, theirs.asked()); len(leaks) > 0 {
		t.Errorf("%s %s, and sees %q in %s", what, theirs, leaks, a.text)
	}
	if theirs.String() == none.String() {
		return
	}
	d := s.judge.difference(a, send(none), change)
	// A page may be drawn on either side of a minute; what tells of another's things does so again.
	for try := 0; d != "" && !change && try < 3; try++ {
		d = s.judge.difference(send(theirs), send(none), change)
	}
	if d != "" {
		t.Errorf("%s %s\n%s", what, theirs, d)
	}
}

// snapshot is everything that the account itself reads about its things.
func (s *isolation) snapshot(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, m := range s.methods {
		if s.changes(t, m) {
			continue
		}
		for _, how := range choices(t, m, s.theirs.ids) {
			_, req := requestOf(t, m, s.theirs.ids, how)
			out[path(m)+" "+encoded(t, req)] = s.judge.plain(s.call(t, s.theirs.key, m, req).text)
		}
	}
	return out
}

// pageTokens gives each list of the other account's to callers as a token, who must not go on with it.
func (s *isolation) pageTokens(t *testing.T) {
	t.Helper()
	given := 0
	for _, m := range s.methods {
		size, token := m.Input().Fields().ByName("page_size"), m.Input().Fields().ByName("page_token")
		if size == nil || token == nil {
			continue
		}
		_, req := requestOf(t, m, s.nothing, choice{own: true, only: "none"})
		req.ProtoReflect().Set(size, protoreflect.ValueOfInt32(1))
		if del := m.Input().Fields().ByName("delivery_id"); del != nil {
			req.ProtoReflect().Set(del, protoreflect.ValueOfString(s.theirs.ids.at(aDelivery, 0)))
		}
		if plain := m.Input().Fields().ByName("event_type"); plain != nil {
			req.ProtoReflect().Clear(plain)
		}
		var page struct {
			Next string `json:"next_page_token"`
		}
		decode(t, s.call(t, s.theirs.key, m, req).text, &page)
		if page.Next == "" {
			continue
		}
		given++
		req.ProtoReflect().Set(token, protoreflect.ValueOfString(page.Next))
		req.ProtoReflect().Set(size, protoreflect.ValueOfInt32(100))
		for _, c := range s.callers {
			a := s.call(t, c.credential, m, req)
			require.Empty(t, s.judge.leaks(a, encoded(t, req)), "%s goes on with the other account's page of %s", c.name, path(m))
		}
	}
	require.GreaterOrEqual(t, given, 5, "the account has to have two of what is listed")
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), v), text)
}
