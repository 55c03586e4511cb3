package dedup

import (
	"context"
	_ "embed" // the scripts stand in files of their own
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed claim.lua
	claimLua string
	//go:embed finish.lua
	finishLua string
	//go:embed release.lua
	releaseLua string
	//go:embed beat.lua
	beatLua string
	//go:embed mark.lua
	markLua string
	//go:embed seal.lua
	sealLua string
)

// claimScript takes a key that somebody may hold.
// KEYS[1] key. ARGV[1] pending value of the asker, ARGV[2] its life (ms), ARGV[3] takeover (ms).
// Returns {how, standing value, remaining life (ms)}: how is 0 if the key stays as it is, 1 if the
// asker holds it under its own event id (it was free, finished in another incarnation of EVENTS,
// or the asker's already), 2 if the asker holds it under the event id of an earlier holder.
var claimScript = redis.NewScript(claimLua)

// finishScript turns pending keys into finished ones.
// KEYS[i] key. ARGV[3i-2] token, ARGV[3i-1] finished value, ARGV[3i] its life (ms).
// A key that is pending under another token, or finished, stays as it is; a key that is absent is
// set, because that its event is stored is true whoever lost the claim.
// Returns how many keys were set.
var finishScript = redis.NewScript(finishLua)

// releaseScript frees pending keys.
// KEYS[i] key. ARGV[i] token. Keys under another token, and finished ones, stay.
// Returns how many keys were freed.
var releaseScript = redis.NewScript(releaseLua)

// beatScript says that a replica still finds a slot sound, and reads what others say of it.
// KEYS[1] epoch of the slot. ARGV[1] generation that the caller knows, or empty; ARGV[2] lowest
// counter that it accepts.
// If the generation is the caller's, the counter no lower, and the server process the one that the
// slot was sealed in, it moves the counter on and notes that the slot covers all until now.
// Returns {generation, counter, sound}: generation is empty if the slot holds nothing that was
// sealed, sound is 0 if another process of the server sealed it, which may have held more.
var beatScript = redis.NewScript(beatLua)

// markScript begins the rebuild of a slot.
// KEYS[1] epoch of the slot. ARGV[1] token of the rebuild.
// Returns {generation, how long ago in ms the slot covered everything, id of the server process}.
var markScript = redis.NewScript(markLua)

// sealScript ends the rebuild of a slot.
// KEYS[1] epoch of the slot. ARGV[1] token of the rebuild, ARGV[2] id of the server process when it
// began, ARGV[3] new generation, ARGV[4] how long ago in ms everything was covered.
// Returns the new counter; 0 if the slot was flushed, the server restarted or another rebuild
// began since the mark: then nothing is sealed.
var sealScript = redis.NewScript(sealLua)

// call is one script run within a pipeline.
type call struct {
	script *redis.Script
	slot   int // of the keys; who reads failures sets it
	keys   []string
	args   []any
	cmd    *redis.Cmd
}

// runScripts runs calls in one pipeline by their hashes; those whose script the server does not
// have, as after a restart, are run once more with their text. The error is the first call's;
// each call holds its own.
func runScripts(ctx context.Context, client redis.UniversalClient, calls []call) error {
	pipe := client.Pipeline()
	for i := range calls {
		calls[i].cmd = calls[i].script.EvalSha(ctx, pipe, calls[i].keys, calls[i].args...)
	}
	_, err := pipe.Exec(ctx)
	if err == nil {
		return nil
	}
	var again []*call
	for i := range calls {
		if err := calls[i].cmd.Err(); errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT") {
			again = append(again, &calls[i])
		}
	}
	if len(again) > 0 {
		pipe = client.Pipeline()
		for _, c := range again {
			c.cmd = c.script.Eval(ctx, pipe, c.keys, c.args...)
		}
		_, _ = pipe.Exec(ctx) // read from the commands below
	}
	for i := range calls {
		if err := calls[i].cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("run script: %w", err)
		}
	}
	return nil
}

// failures are the errors of calls, by slot.
func failures(calls []call) *[slots]error {
	var causes [slots]error
	for i := range calls {
		if err := calls[i].cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			causes[calls[i].slot] = err
		}
	}
	return &causes
}

// oneByOne cuts the calls that failed into one for each key if that is why they failed: while a slot
// of the cluster moves, the keys of one call may be on two nodes. The others stay as they are. It
// returns nothing if there are none to cut.
func oneByOne(calls []call) (cut []call) {
	found := false
	for _, c := range calls {
		switch err := c.cmd.Err(); {
		case err == nil, errors.Is(err, redis.Nil):
		case redis.HasErrorPrefix(err, "TRYAGAIN"):
			found = true
			each := len(c.args) / len(c.keys)
			for i := range c.keys {
				cut = append(cut, call{script: c.script, slot: c.slot, keys: c.keys[i : i+1], args: c.args[i*each : (i+1)*each]})
			}
		default:
			cut = append(cut, c)
		}
	}
	if !found {
		return nil
	}
	return cut
}
