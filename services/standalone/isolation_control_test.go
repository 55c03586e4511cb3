//go:build !race

package standalone_test

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/postrider/postrider/pkg/postrider"
)

// notAlone are the fields that make no difference alone even to the owner, because the server sets
// them itself, or because they need another one beside them.
var notAlone = []string{
	"CreateWebhook.webhook.account_id", "CreateWebhook.webhook.id", "CreateWebhook.webhook.number", "CreateWebhook.webhook.uuid",
	"UpdateApiKey.api_key.account_id", "UpdateWebhook.webhook.account_id", "UpdateWebhook.webhook.number", "UpdateWebhook.webhook.uuid",
	"CreateEventType.event_type.account_id", "CreateEventType.event_type.name", "UpdateEventType.event_type.account_id",
	"ImportEventTypes.event_types.account_id", "ImportEventTypes.event_types.name",
	"PublishEvent.event.id", "BatchPublishEvents.requests.event.id", "BatchPublishEvents.requests.idempotency_key",
	"StreamEvents.request.event.id", "StreamEvents.request.idempotency_key", "TestWebhook.event.id", "GetEvent.sequence",
	"RedriveDeadLetters.dead_letters.delivery_ids", "RedriveDeadLetters.replay_id",
}

// ownersAreTold asks the same as its owner, to whom every answer has to tell its things from nothing:
// else the comparison would find nothing wherever it looks. It comes last, because owners may delete.
func (s *isolation) ownersAreTold(t *testing.T) {
	t.Helper()
	owner := caller{"its owner", s.theirs.key, s.theirs.client}
	s.pagesTellOwners(t, owner)
	s.routesTellOwners(t, owner)
	methods := slices.Clone(s.methods)
	slices.SortStableFunc(methods, func(a, b protoreflect.MethodDescriptor) int { return rank(a) - rank(b) })
	for _, m := range methods {
		if s.rules[path(m)] != postrider.ScopeAdmin {
			s.methodTellsOwner(t, owner, m)
		}
	}
}

// rank orders methods so that what one takes away is not what a later one is asked about.
func rank(m protoreflect.MethodDescriptor) int {
	switch name := string(m.Name()); {
	case strings.HasPrefix(name, "Delete"):
		return 3
	case strings.HasPrefix(name, "Expunge"):
		return 2
	case strings.HasPrefix(name, "Get"), strings.HasPrefix(name, "List"):
		return 0
	}
	return 1
}

// methodTellsOwner wants each field that names something to make a difference.
func (s *isolation) methodTellsOwner(t *testing.T, owner caller, m protoreflect.MethodDescriptor) {
	t.Helper()
	all, _ := requestOf(t, m, s.theirs.ids, choice{})
	tells := make(map[string]bool) // by path; empty: all together
	for _, how := range choices(t, m, s.theirs.ids) {
		_, none := requestOf(t, m, s.nothing, how)
		_, theirs := requestOf(t, m, s.theirs.ids, how)
		b := s.call(t, owner.credential, m, none)
		if s.judge.difference(s.call(t, owner.credential, m, theirs), b, s.changes(t, m)) != "" {
			tells[how.only] = true
		}
	}
	for _, at := range all.paths {
		if len(all.paths) <= 2 || slices.Contains(notAlone, string(m.Name())+"."+at) {
			at = ""
		}
		assert.True(t, tells[at], "%s: the owner cannot tell its things from nothing by %s", m.Name(), cmp.Or(at, "all fields"))
	}
}

func (s *isolation) routesTellOwners(t *testing.T, owner caller) {
	t.Helper()
	for _, op := range s.operations(t) {
		own := s.methodOf(op) == nil || op.method == http.MethodGet // what changes something, methodTellsOwner asks
		if !strings.Contains(op.path, "{") || !own || strings.HasPrefix(op.path, "/callbacks/") {
			continue
		}
		theirs, none := s.routeAsks(t, op, s.theirs.ids), s.routeAsks(t, op, s.nothing)
		told := false
		for i := range theirs {
			b := s.send(t, owner, none[i])
			told = s.judge.difference(s.send(t, owner, theirs[i]), b, s.opChanges(t, op)) != "" || told
		}
		assert.True(t, told, "%s %s: the owner cannot tell its things from nothing", op.method, op.path)
	}
}

func (s *isolation) pagesTellOwners(t *testing.T, owner caller) {
	t.Helper()
	account := s.theirs.account
	b := s.signIn(t, owner, account)
	s.pages(t, false, func(method, path string) {
		if strings.Count(path, "{") < 2 || !strings.HasPrefix(path, b.prefix) || strings.HasSuffix(path, "{$}") {
			return
		}
		theirs, none := pageAsks(t, method, path, account, s.theirs.ids), pageAsks(t, method, path, account, s.nothing)
		told := false
		for i := range theirs {
			told = s.judge.difference(b.visit(t, s, theirs[i]), b.visit(t, s, none[i]), false) != "" || told
		}
		assert.True(t, told, "%s %s: the owner cannot tell its things from nothing", method, path)
	})
}
