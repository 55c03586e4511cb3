package api_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/pkg/config"
	"github.com/postrider/postrider/pkg/fault"
	"github.com/postrider/postrider/pkg/httpsig"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

func TestTwoReplicasMakeOneSigningKey(t *testing.T) {
	t.Parallel()
	d := newDeployment(t)
	one, two := d.start(t, "one"), d.start(t, "two")
	account, key := one.newAccount(t, "read")
	require.Eventually(t, func() bool { // the other replica learns the credential
		_, err := postriderv1.NewAccountServiceClient(two.conn).GetAccount(as(t.Context(), key), &postriderv1.GetAccountRequest{})
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for _, r := range []*replica{one, two, one, two, one, two} {
		wg.Go(func() {
			resp, err := postriderv1.NewSigningKeyServiceClient(r.conn).GetSigningKey(as(t.Context(), key),
				&postriderv1.GetSigningKeyRequest{Algorithm: "ecdsa-p384-sha384"})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			ids[resp.GetSigningKey().GetId()]++
		})
	}
	wg.Wait()
	require.Len(t, ids, 1, "everybody was told of the same key")
	rec, _, err := two.store.GetAccount(t.Context(), account)
	require.NoError(t, err)
	require.Len(t, rec.GetSigningKeys(), 1)

	stored := rec.GetSigningKeys()[0]
	der, err := two.sealer.Open(stored.GetCiphertext(), config.SigningKeyContext(account, stored.GetKey().GetId()))
	require.NoError(t, err)
	private, err := x509.ParsePKCS8PrivateKey(der)
	require.NoError(t, err)
	id, err := httpsig.Thumbprint(private.(crypto.Signer).Public())
	require.NoError(t, err)
	require.Equal(t, stored.GetKey().GetId(), id)
	public, alg, err := httpsig.ParsePublicKey(stored.GetKey().GetPublicKey())
	require.NoError(t, err)
	require.Equal(t, httpsig.ECDSAP384, alg)
	require.Equal(t, private.(crypto.Signer).Public(), public)
	_, err = two.sealer.Open(stored.GetCiphertext(), config.SigningKeyContext("acc_other", id))
	require.Error(t, err, "moved to another account it does not open")
}

func TestSigningKeysRotateWithoutAGap(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	_, secret := r.newAccount(t, "read", "manage")
	keys := postriderv1.NewSigningKeyServiceClient(r.conn)
	ctx := as(t.Context(), secret)
	first, err := keys.GetSigningKey(ctx, &postriderv1.GetSigningKeyRequest{})
	require.NoError(t, err)
	require.Equal(t, "ed25519", first.GetSigningKey().GetAlgorithm())
	require.Nil(t, first.GetSigningKey().GetRetireTime())

	rotated, err := keys.RotateSigningKey(ctx, &postriderv1.RotateSigningKeyRequest{})
	require.NoError(t, err)
	fresh := rotated.GetSigningKey()
	require.WithinDuration(t, fresh.GetCreateTime().AsTime().Add(time.Hour), fresh.GetSignTime().AsTime(), time.Second)
	now, err := keys.GetSigningKey(ctx, &postriderv1.GetSigningKeyRequest{})
	require.NoError(t, err)
	require.Equal(t, first.GetSigningKey().GetId(), now.GetSigningKey().GetId(), "the old one signs until then")
	list, err := keys.ListSigningKeys(ctx, &postriderv1.ListSigningKeysRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetSigningKeys(), 2)
	require.Equal(t, fresh.GetId(), list.GetSigningKeys()[0].GetId(), "newest first")
	old := list.GetSigningKeys()[1]
	require.Equal(t, fresh.GetSignTime().AsTime().Add(24*time.Hour), old.GetRetireTime().AsTime(), "they overlap")
	require.Greater(t, old.GetExpireTime().AsTime().Sub(old.GetRetireTime().AsTime()), 300*time.Second, "it is published longer than it signs")

	atOnce, err := keys.RotateSigningKey(ctx, &postriderv1.RotateSigningKeyRequest{PublishDelay: durationpb.New(0), Overlap: durationpb.New(0)})
	require.NoError(t, err)
	now, err = keys.GetSigningKey(ctx, &postriderv1.GetSigningKeyRequest{})
	require.NoError(t, err)
	require.Equal(t, atOnce.GetSigningKey().GetId(), now.GetSigningKey().GetId())
	list, err = keys.ListSigningKeys(ctx, &postriderv1.ListSigningKeysRequest{})
	require.NoError(t, err)
	for _, k := range list.GetSigningKeys()[1:] {
		require.False(t, k.GetRetireTime().AsTime().After(time.Now()), "the others have stopped")
	}

	other, err := keys.RotateSigningKey(ctx, &postriderv1.RotateSigningKeyRequest{Algorithm: "ecdsa-p384-sha384"})
	require.NoError(t, err)
	require.True(t, other.GetSigningKey().GetSignTime().AsTime().Before(time.Now()), "the first of its algorithm has nothing to wait for")
	_, err = keys.RotateSigningKey(ctx, &postriderv1.RotateSigningKeyRequest{Overlap: durationpb.New(8 * 24 * time.Hour), PublishDelay: durationpb.New(-1)})
	requireFault(t, err, fault.Invalid, "overlap")
	requireFault(t, err, fault.Invalid, "publish_delay")
	_, err = keys.GetSigningKey(ctx, &postriderv1.GetSigningKeyRequest{Algorithm: "rsa-pss-sha512"})
	requireFault(t, err, fault.Invalid, "algorithm")
	for range 4 {
		_, err = keys.RotateSigningKey(ctx, &postriderv1.RotateSigningKeyRequest{})
		require.NoError(t, err)
	}
	_, err = keys.RotateSigningKey(ctx, &postriderv1.RotateSigningKeyRequest{})
	requireFault(t, err, fault.Precondition, "TOO_MANY_SIGNING_KEYS")
}

func TestClientKeysAreUploadedOnceAndDeleted(t *testing.T) {
	t.Parallel()
	r := newDeployment(t).start(t, "one")
	_, secret := r.newAccount(t, "read", "manage")
	_, reader := r.newAccount(t, "read")
	keys := postriderv1.NewSigningKeyServiceClient(r.conn)
	ctx := as(t.Context(), secret)
	text := publicPEM(t, generate(t, httpsig.ECDSAP384).Public())
	one, err := keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: text})
	require.NoError(t, err)
	again, err := keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: text})
	require.NoError(t, err)
	require.Equal(t, one.GetClientKey().GetCreateTime().AsTime(), again.GetClientKey().GetCreateTime().AsTime())
	two, err := keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: publicPEM(t, generate(t, httpsig.Ed25519).Public())})
	require.NoError(t, err)
	list, err := keys.ListClientKeys(ctx, &postriderv1.ListClientKeysRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetClientKeys(), 2)
	require.Equal(t, two.GetClientKey().GetId(), list.GetClientKeys()[0].GetId())

	_, err = keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: publicPEM(t, generate(t, httpsig.RSAPSS).Public())})
	requireFault(t, err, fault.Invalid, "public_key")
	_, err = keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: "x"})
	requireFault(t, err, fault.Invalid, "public_key")
	_, err = keys.UploadClientKey(as(t.Context(), reader), &postriderv1.UploadClientKeyRequest{PublicKey: text})
	requireFault(t, err, fault.Denied, "manage")

	_, err = keys.DeleteClientKey(ctx, &postriderv1.DeleteClientKeyRequest{ClientKeyId: one.GetClientKey().GetId()})
	require.NoError(t, err)
	_, err = keys.DeleteClientKey(ctx, &postriderv1.DeleteClientKeyRequest{ClientKeyId: one.GetClientKey().GetId()})
	requireFault(t, err, fault.NotFound, one.GetClientKey().GetId())
	for range 15 {
		_, err = keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: publicPEM(t, generate(t, httpsig.Ed25519).Public())})
		require.NoError(t, err)
	}
	_, err = keys.UploadClientKey(ctx, &postriderv1.UploadClientKeyRequest{PublicKey: text})
	requireFault(t, err, fault.Precondition, "TOO_MANY_CLIENT_KEYS")
}

func generate(t *testing.T, alg httpsig.Algorithm) crypto.Signer {
	t.Helper()
	key, err := httpsig.GenerateKey(alg)
	require.NoError(t, err)
	return key
}

func publicPEM(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
