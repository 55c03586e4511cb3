// Package webhookindex finds webhooks by what the configuration's keys do not hold: their UUID,
// their number, and the token that the profile `labelst` puts into bodies; and it lists an
// account's webhooks without asking for each. It is fed by a mirror of the configuration, in
// memory, and lost with the process. What it says is true only while the mirror is fresh; whoever
// asks checks that.
//
// Records are kept encoded, a fraction of what they take decoded, with their secrets sealed. A
// token is kept as its SHA-256 alone.
package webhookindex

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/pkg/config"
	recordv1 "github.com/postrider/postrider/proto/gen/go/postrider/record/v1"
	postriderv1 "github.com/postrider/postrider/proto/gen/go/postrider/v1"
)

// TokenProfile is the profile whose secrets are tokens.
const TokenProfile = "labelst"

// Open decrypts a webhook's secret.
type Open func(account, webhook string, sealed *recordv1.SealedSecret) (string, error)

// Index finds webhooks.
type Index struct {
	open Open
	now  func() time.Time
	log  *slog.Logger

	mu       sync.RWMutex
	webhooks map[string]*entry   // by id
	accounts map[string][]string // ids of each account's webhooks, in order
	uuids    map[uuidKey]string
	numbers  map[int64]*entry
	tokens   map[digest][]token
}

type digest [sha256.Size]byte

type uuidKey struct{ account, uuid string }

// entry is what the index keeps of a webhook.
type entry struct {
	account, id string
	uuid        string
	number      int64
	tokens      []digest
	record      []byte
	revision    uint64
	state       postriderv1.WebhookState
}

// token is one use of a token: two webhooks may have been given the same.
type token struct {
	webhook string
	hash    digest
	expires time.Time // zero: never
}

// New returns an index without webhooks.
func New(open Open, now func() time.Time, log *slog.Logger) *Index {
	return &Index{
		open: open, now: now, log: log,
		webhooks: make(map[string]*entry), accounts: make(map[string][]string), uuids: make(map[uuidKey]string),
		numbers: make(map[int64]*entry), tokens: make(map[digest][]token),
	}
}

// Put adds a webhook or replaces what was known of it.
func (x *Index) Put(rec *recordv1.Webhook, revision uint64) {
	w := rec.GetWebhook()
	record, err := proto.Marshal(rec)
	if err != nil { // it was decoded a moment ago
		x.log.Error("webhook cannot be encoded, so it is not found", "webhook", w.GetId(), "error", err)
		x.Delete(w.GetAccountId(), w.GetId(), revision)
		return
	}
	e := &entry{account: w.GetAccountId(), id: w.GetId(), uuid: w.GetUuid(), number: w.GetNumber(), record: record, revision: revision, state: w.GetState()}
	tokens := x.read(rec)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(e.id)
	x.webhooks[e.id] = e
	ids := x.accounts[e.account]
	place, _ := slices.BinarySearch(ids, e.id)
	x.accounts[e.account] = slices.Insert(ids, place, e.id)
	x.uuids[uuidKey{e.account, e.uuid}] = e.id
	x.numbers[e.number] = e
	for _, t := range tokens {
		e.tokens = append(e.tokens, t.hash)
		x.tokens[t.hash] = append(x.tokens[t.hash], t)
	}
}

// States is how many webhooks are in each state.
func (x *Index) States() map[postriderv1.WebhookState]int64 {
	n := make(map[postriderv1.WebhookState]int64)
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, e := range x.webhooks {
		n[e.state]++
	}
	return n
}

// read decrypts the tokens of a webhook that has such.
func (x *Index) read(rec *recordv1.Webhook) []token {
	w := rec.GetWebhook()
	if w.GetProfile() != TokenProfile {
		return nil
	}
	tokens := make([]token, 0, len(rec.GetSecrets()))
	for _, sealed := range rec.GetSecrets() {
		text, err := x.open(w.GetAccountId(), w.GetId(), sealed)
		if err != nil {
			x.log.Error("token cannot be decrypted, so it verifies as unknown", "webhook", w.GetId(), "secret", sealed.GetId(), "error", err)
			continue
		}
		t := token{webhook: w.GetId(), hash: sha256.Sum256([]byte(text))}
		if sealed.GetExpireTime() != nil {
			t.expires = sealed.GetExpireTime().AsTime()
		}
		tokens = append(tokens, t)
	}
	return tokens
}

// Delete forgets a webhook.
func (x *Index) Delete(_, id string, _ uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(id)
}

func (x *Index) remove(id string) {
	e, ok := x.webhooks[id]
	if !ok {
		return
	}
	delete(x.webhooks, id)
	ids := x.accounts[e.account]
	if place, found := slices.BinarySearch(ids, id); found {
		ids = slices.Delete(ids, place, place+1)
	}
	if x.accounts[e.account] = ids; len(ids) == 0 {
		delete(x.accounts, e.account)
	}
	// A UUID that was given again belongs to the newer webhook.
	if k := (uuidKey{e.account, e.uuid}); x.uuids[k] == id {
		delete(x.uuids, k)
	}
	if x.numbers[e.number] == e {
		delete(x.numbers, e.number)
	}
	for _, hash := range e.tokens {
		kept := make([]token, 0, len(x.tokens[hash]))
		for _, t := range x.tokens[hash] {
			if t.webhook != id {
				kept = append(kept, t)
			}
		}
		if len(kept) == 0 {
			delete(x.tokens, hash)
		} else {
			x.tokens[hash] = kept
		}
	}
}

// ByUUID is the id of the account's webhook with that UUID, empty if there is none.
func (x *Index) ByUUID(account, uuid string) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.uuids[uuidKey{account, uuid}]
}

// ByNumber is the id of the account's webhook with that number, empty if there is none.
func (x *Index) ByNumber(account string, number int64) string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e, ok := x.numbers[number]; ok && e.account == account {
		return e.id
	}
	return ""
}

// List is the account's webhooks in the order of their ids, those after an id, at most limit.
func (x *Index) List(account, after string, limit int) ([]config.Entry[*recordv1.Webhook], error) {
	x.mu.RLock()
	ids := x.accounts[account]
	from, found := slices.BinarySearch(ids, after)
	if found {
		from++
	}
	entries := make([]*entry, 0, min(limit, len(ids)-from))
	for _, id := range ids[from:min(from+limit, len(ids))] {
		entries = append(entries, x.webhooks[id])
	}
	x.mu.RUnlock()
	out := make([]config.Entry[*recordv1.Webhook], len(entries))
	for i, e := range entries { // an entry never changes
		rec, err := e.decode()
		if err != nil {
			return nil, err
		}
		out[i] = config.Entry[*recordv1.Webhook]{Record: rec, Revision: e.revision}
	}
	return out, nil
}

// Get is a webhook of the account, or config.ErrNotFound.
func (x *Index) Get(account, id string) (*recordv1.Webhook, error) {
	x.mu.RLock()
	e := x.webhooks[id]
	x.mu.RUnlock()
	if e == nil || e.account != account {
		return nil, config.ErrNotFound
	}
	return e.decode()
}

func (e *entry) decode() (*recordv1.Webhook, error) {
	rec := &recordv1.Webhook{}
	if err := proto.Unmarshal(e.record, rec); err != nil {
		return nil, fmt.Errorf("decode webhook %s: %w", e.id, err)
	}
	return rec, nil
}

// Live reports whether the text is the token of a webhook, or was until less than its time of
// grace ago. What takes a time that depends on data works on the SHA-256 of the text, of which a
// caller cannot choose a single bit without trying; the comparison that decides takes the same time
// whatever differs.
func (x *Index) Live(text string) bool {
	hash := digest(sha256.Sum256([]byte(text)))
	now := x.now()
	x.mu.RLock()
	defer x.mu.RUnlock()
	live := false
	for _, t := range x.tokens[hash] {
		same := subtle.ConstantTimeCompare(t.hash[:], hash[:]) == 1
		live = live || same && (t.expires.IsZero() || now.Before(t.expires))
	}
	return live
}
