package access

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/postrider"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

const adminKey = "the-words-of-an-operator"

var (
	mine   = postrider.NewAccountID()
	theirs = postrider.NewAccountID()
)

// issue makes a key and gives it to the authenticator, as the configuration would.
func issue(a *Authenticator, account postrider.AccountID, scopes ...string) (secret string, rec *recordv1.Key) {
	id, secret := NewKeySecret()
	rec = &recordv1.Key{
		Key:  &postriderv1.ApiKey{Id: id, AccountId: string(account), Scopes: scopes},
		Hash: HashKey(secret),
	}
	a.PutKey(rec)
	return secret, rec
}

func requireFault(t *testing.T, err error, kind fault.Kind, reason string) {
	t.Helper()
	requireFaultThat(t, err, kind, reason, func(*fault.Error) {})
}

func requireFaultThat(t *testing.T, err error, kind fault.Kind, reason string, that func(*fault.Error)) {
	t.Helper()
	e, ok := fault.As(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, kind, e.Kind)
	require.Equal(t, reason, e.Reason)
	that(e)
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator(adminKey)
	secret, rec := issue(a, mine, "publish", "read")
	admin, _ := issue(a, "", "admin")

	for name, header := range map[string]string{
		"as RFC 6750 writes it": "Bearer " + secret,
		"in lower case":         "bearer " + secret,
		"with more space":       "  BEARER   " + secret + " ",
	} {
		t.Run("a known key "+name, func(t *testing.T) {
			t.Parallel()
			p, err := a.Authenticate(header)
			require.NoError(t, err)
			require.Equal(t, Principal{
				Account: mine, KeyID: rec.GetKey().GetId(),
				Scopes: []postrider.Scope{postrider.ScopePublish, postrider.ScopeRead},
			}, p)
		})
	}
	t.Run("an admin key belongs to no account", func(t *testing.T) {
		t.Parallel()
		p, err := a.Authenticate("Bearer " + admin)
		require.NoError(t, err)
		require.True(t, p.Admin)
		require.Empty(t, p.Account)
	})
	t.Run("no credential", func(t *testing.T) {
		t.Parallel()
		_, err := a.Authenticate("")
		requireFault(t, err, fault.Unauthenticated, ReasonKeyMissing)
	})
	for name, header := range map[string]string{
		"another scheme":         "Basic " + secret,
		"no scheme":              secret,
		"an empty credential":    "Bearer ",
		"an unknown credential":  "Bearer prk_01_nobody",
		"two credentials":        "Bearer " + secret + " " + secret,
		"a credential too long":  "Bearer " + strings.Repeat("a", maxCredential+1),
		"part of a credential":   "Bearer " + secret[:len(secret)-1],
		"more than a credential": "Bearer " + secret + "a",
		"the hash itself":        "Bearer " + string(HashKey(secret)),
	} {
		t.Run(name+" is not valid", func(t *testing.T) {
			t.Parallel()
			_, err := a.Authenticate(header)
			requireFaultThat(t, err, fault.Unauthenticated, ReasonKeyInvalid, func(e *fault.Error) {
				require.NotContains(t, e.Error(), secret)
			})
		})
	}
}

func TestTheBootstrapKeyIsAnAdmins(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator("admin-key-of-the-process")
	p, err := a.Authenticate("Bearer admin-key-of-the-process")
	require.NoError(t, err)
	require.True(t, p.Admin)
	require.Equal(t, "bootstrap", p.KeyID)

	none := NewAuthenticator("")
	_, err = none.Authenticate("Bearer ")
	requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
	_, err = none.Authenticate("Bearer admin-key-of-the-process")
	requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
}

func TestAKeyEnds(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator("")
	now := time.Unix(1_000_000, 0)
	a.now = func() time.Time { return now }
	secret, rec := issue(a, mine, "read")
	rec.Key.ExpireTime = timestamppb.New(now.Add(time.Minute))
	a.PutKey(rec)

	now = now.Add(time.Minute - time.Nanosecond)
	_, err := a.Authenticate("Bearer " + secret)
	require.NoError(t, err)
	now = now.Add(time.Nanosecond)
	_, err = a.Authenticate("Bearer " + secret)
	requireFault(t, err, fault.Unauthenticated, ReasonKeyExpired)

	rec.Key.ExpireTime = nil
	a.PutKey(rec)
	_, err = a.Authenticate("Bearer " + secret)
	require.NoError(t, err)
	a.DeleteKey(rec.GetHash())
	_, err = a.Authenticate("Bearer " + secret)
	requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
}

func TestAMalformedKeyOpensNothing(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*recordv1.Key){
		"without a scope":                    func(k *recordv1.Key) { k.Key.Scopes = nil },
		"with an unknown scope":              func(k *recordv1.Key) { k.Key.Scopes = []string{"everything"} },
		"of an account with the scope admin": func(k *recordv1.Key) { k.Key.Scopes = []string{"admin"} },
		"of nobody with an account's scope":  func(k *recordv1.Key) { k.Key.AccountId, k.Key.Scopes = "", []string{"publish"} },
		"without a key in it":                func(k *recordv1.Key) { k.Key = nil },
	} {
		t.Run("a key "+name, func(t *testing.T) {
			t.Parallel()
			a := NewAuthenticator("")
			secret, rec := issue(a, mine, "read")
			change(rec)
			a.PutKey(rec)
			_, err := a.Authenticate("Bearer " + secret)
			requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
		})
	}
	a := NewAuthenticator("")
	a.PutKey(&recordv1.Key{Key: &postriderv1.ApiKey{Scopes: []string{"admin"}}, Hash: []byte("short")})
	a.PutKey(nil)
	a.DeleteKey([]byte("short"))
	require.Empty(t, a.keys)
}

func TestScopes(t *testing.T) {
	t.Parallel()
	all := []postrider.Scope{postrider.ScopePublish, postrider.ScopeManage, postrider.ScopeRead, postrider.ScopeAdmin}
	tests := map[string]struct {
		principal Principal
		want      []postrider.Scope
	}{
		"read alone reads":                          {Principal{Scopes: []postrider.Scope{postrider.ScopeRead}}, []postrider.Scope{postrider.ScopeRead}},
		"publish alone publishes":                   {Principal{Scopes: []postrider.Scope{postrider.ScopePublish}}, []postrider.Scope{postrider.ScopePublish}},
		"manage reads and does not publish":         {Principal{Scopes: []postrider.Scope{postrider.ScopeManage}}, []postrider.Scope{postrider.ScopeManage, postrider.ScopeRead}},
		"nothing does nothing":                      {Principal{}, nil},
		"an admin does all":                         {Principal{Admin: true}, all},
		"the scope admin of an account is no admin": {Principal{Scopes: []postrider.Scope{postrider.ScopeAdmin}}, nil},
		"a scope that does not exist":               {Principal{Scopes: []postrider.Scope{"x"}}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []postrider.Scope
			for _, s := range all {
				if test.principal.Allows(s) {
					require.NoError(t, test.principal.Require(s))
					got = append(got, s)
					continue
				}
				requireFaultThat(t, test.principal.Require(s), fault.Denied, ReasonScopeMissing, func(e *fault.Error) {
					require.Contains(t, e.Message, string(s))
					require.Equal(t, string(s), e.Metadata["scope"])
				})
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.principal.Admin, test.principal.Allows("x"), "a scope that does not exist")
		})
	}
}

func TestFor(t *testing.T) {
	t.Parallel()
	owner, admin := Principal{Account: mine}, Principal{Admin: true}
	for _, requested := range []string{"", string(mine)} {
		got, err := owner.For(requested)
		require.NoError(t, err)
		require.Equal(t, mine, got)
	}
	for _, requested := range []string{string(theirs), "acc_1", "*"} {
		got, err := owner.For(requested)
		requireFault(t, err, fault.NotFound, ReasonAccountNotFound)
		require.Empty(t, got)
	}
	got, err := admin.For(string(theirs))
	require.NoError(t, err)
	require.Equal(t, theirs, got)
	for _, requested := range []string{"", "acc_1"} {
		_, err := admin.For(requested)
		requireFaultThat(t, err, fault.Invalid, "INVALID_ARGUMENT", func(e *fault.Error) {
			require.Equal(t, "account_id", e.Violations[0].Field)
		})
	}
	_, err = Principal{}.For("")
	requireFault(t, err, fault.NotFound, ReasonAccountNotFound)
}

// call runs the unary interceptor as a server would, and returns the principal that the handler saw.
func call(t *testing.T, a *Authenticator, method, header string) (Principal, error) {
	t.Helper()
	rules := map[string]postrider.Scope{"/s/Publish": postrider.ScopePublish, "/s/Manage": postrider.ScopeManage}
	ctx := t.Context()
	if header != "" {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("Authorization", header))
	}
	var seen Principal
	_, err := Unary(a, rules)(ctx, nil, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
		var err error
		seen, err = FromContext(ctx)
		return nil, err
	})
	return seen, err
}

func TestUnary(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator(adminKey)
	secret, rec := issue(a, mine, "publish")

	p, err := call(t, a, "/s/Publish", "Bearer "+secret)
	require.NoError(t, err)
	require.Equal(t, rec.GetKey().GetId(), p.KeyID)
	_, err = call(t, a, "/s/Manage", "Bearer "+secret)
	requireFaultThat(t, err, fault.Denied, ReasonScopeMissing, func(e *fault.Error) {
		require.Contains(t, e.Message, "manage")
	})
	_, err = call(t, a, "/s/Publish", "")
	requireFault(t, err, fault.Unauthenticated, ReasonKeyMissing)
	_, err = call(t, a, "/s/Publish", "Bearer x")
	requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
	_, err = call(t, a, "/s/Forgotten", "Bearer "+secret)
	requireFault(t, err, fault.Denied, ReasonMethodClosed)
	_, err = call(t, a, "/s/Forgotten", "")
	requireFault(t, err, fault.Unauthenticated, ReasonKeyMissing)
	_, err = call(t, a, "/grpc.health.v1.Health/Check", "")
	requireFault(t, err, fault.Unauthenticated, ReasonKeyMissing) // by the handler, which asked who it is
}

// fakeStream delivers messages without end.
type fakeStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // as gRPC's own
}

func (s *fakeStream) Context() context.Context { return s.ctx }
func (s *fakeStream) RecvMsg(any) error        { return nil }

func TestARevokedKeyEndsAStream(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator("")
	secret, rec := issue(a, mine, "publish")
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer "+secret))
	intercept := Stream(a, map[string]postrider.Scope{"/s/Stream": postrider.ScopePublish})
	info := &grpc.StreamServerInfo{FullMethod: "/s/Stream"}
	err := intercept(nil, &fakeStream{ctx: ctx}, info, func(_ any, ss grpc.ServerStream) error {
		p, err := FromContext(ss.Context())
		require.NoError(t, err)
		require.Equal(t, mine, p.Account)
		require.NoError(t, ss.RecvMsg(nil))
		a.DeleteKey(rec.GetHash())
		return ss.RecvMsg(nil)
	})
	requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
	err = intercept(nil, &fakeStream{ctx: ctx}, info, func(any, grpc.ServerStream) error { return nil })
	requireFault(t, err, fault.Unauthenticated, ReasonKeyInvalid)
	err = intercept(nil, &fakeStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: "/grpc.reflection.v1.ServerReflection/X"},
		func(any, grpc.ServerStream) error { return nil })
	require.NoError(t, err)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator("")
	secret, _ := issue(a, mine, "read")
	h := HTTP(a, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := FromContext(r.Context())
		if err != nil || p.Account != mine {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	get := func(header string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/webhooks", nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	require.Equal(t, http.StatusOK, get("Bearer "+secret).Code)
	for _, header := range []string{"", "Bearer nobody"} {
		w := get(header)
		require.Equal(t, http.StatusUnauthorized, w.Code)
		require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
		require.NotEmpty(t, w.Header().Get("WWW-Authenticate"))
	}
}

func TestCredentialsDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		id, secret := NewKeySecret()
		require.Regexp(t, `^key_[0-9A-Z]{26}$`, id)
		require.Regexp(t, `^prk_[0-9A-Z]{26}_[a-z2-7]{52}$`, secret)
		require.Contains(t, secret, strings.TrimPrefix(id, "key_"), "the credential shows which key it is")
		require.False(t, seen[id] || seen[secret])
		seen[id], seen[secret] = true, true
	}
}

func TestAuthenticatorIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	a := NewAuthenticator("")
	secret, rec := issue(a, mine, "read")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				_, _ = a.Authenticate("Bearer " + secret)
				a.DeleteKey(rec.GetHash())
				a.PutKey(rec)
			}
		})
	}
	wg.Wait()
	_, err := a.Authenticate("Bearer " + secret)
	require.NoError(t, err)
}

func FuzzAuthenticate(f *testing.F) {
	a := NewAuthenticator(adminKey)
	secret, _ := issue(a, mine, "read")
	for _, s := range []string{"", "Bearer", "Bearer ", "bearer x", "Bearer\tx", "Bearer " + secret, secret} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p, err := a.Authenticate(header)
		if err == nil {
			require.True(t, strings.Contains(header, secret) || strings.Contains(header, adminKey))
			return
		}
		require.Empty(t, p.KeyID)
		kind, _ := fault.KindOf(err)
		require.Equal(t, fault.Unauthenticated, kind)
	})
}
