package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
)

// GetIdempotent reads what an account's Idempotency-Key was claimed for. The scope says what the
// key is unique in. With ErrNotFound, the revision to store the first claim at is 0.
func (s *Store) GetIdempotent(ctx context.Context, account, scope, idempotencyKey string) (*recordv1.IdempotentResult, uint64, error) {
	rec, rev, err := s.idempotency.get(ctx, idempotencyName(account, scope, idempotencyKey))
	return rec, rev, about("read idempotency key of", account, err)
}

// PutIdempotent stores a claim or an answer if the record is at revision rev, 0 if there must be
// none; ErrConflict if somebody else was faster. The record goes away a day after its last write.
func (s *Store) PutIdempotent(
	ctx context.Context, account, scope, idempotencyKey string, rec *recordv1.IdempotentResult, rev uint64,
) (uint64, error) {
	made, err := s.idempotency.put(ctx, idempotencyName(account, scope, idempotencyKey), rec, rev)
	return made, about("store idempotency key of", account, err)
}

// idempotencyName is short, whatever the caller's key is.
func idempotencyName(account, scope, idempotencyKey string) string {
	sum := sha256.Sum256([]byte(scope + "\x00" + idempotencyKey))
	return key(account, hex.EncodeToString(sum[:]))
}
