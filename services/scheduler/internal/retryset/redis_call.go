package retryset

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// call is one run of a script. Its reply is there after run.
type call struct {
	keys  []string
	args  []any
	reply *redis.Cmd
}

// run runs a script for each call, all in one round trip, and a second one for those whose
// node does not know the script yet. Errors are in the replies.
func (x *Redis) run(ctx context.Context, s *redis.Script, calls []call) {
	pipe := x.client.Pipeline()
	for i := range calls {
		calls[i].reply = s.EvalSha(ctx, pipe, calls[i].keys, calls[i].args...)
	}
	_, _ = pipe.Exec(ctx) // each reply has its own error

	pipe = x.client.Pipeline()
	for i := range calls {
		if redis.HasErrorPrefix(calls[i].reply.Err(), "NOSCRIPT") {
			calls[i].reply = s.Eval(ctx, pipe, calls[i].keys, calls[i].args...)
		}
	}
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx) // each reply has its own error
	}
}

// errReply says that a script answered with something else than its contract says.
var errReply = errors.New("unexpected reply of a script")

// claimReply is what claim.lua returns.
type claimReply struct {
	epoch

	next    int64
	sound   int64
	time    int64 // microseconds
	members []Member
}

func parseClaim(cmd *redis.Cmd) (claimReply, error) {
	values, err := cmd.Slice()
	if err != nil {
		return claimReply{}, err
	}
	if len(values) != 6 {
		return claimReply{}, fmt.Errorf("%w: %d values", errReply, len(values))
	}
	var reply claimReply
	for i, to := range []*int64{&reply.generation, &reply.count, &reply.next, &reply.sound, &reply.time} {
		n, ok := values[i].(int64)
		if !ok {
			return claimReply{}, fmt.Errorf("%w: %T for a number", errReply, values[i])
		}
		*to = n
	}
	names, ok := values[5].([]any)
	if !ok {
		return claimReply{}, fmt.Errorf("%w: %T for the members", errReply, values[5])
	}
	reply.members = make([]Member, 0, len(names))
	for _, v := range names {
		name, ok := v.(string)
		if !ok {
			return claimReply{}, fmt.Errorf("%w: %T for a member", errReply, v)
		}
		m, err := ParseMember(name)
		if err != nil {
			// Not ours. It is leased again and again, which the divergence shows, and harms nobody.
			continue
		}
		reply.members = append(reply.members, m)
	}
	return reply, nil
}

func parseNumbers(cmd *redis.Cmd, want int) ([]int64, error) {
	numbers, err := cmd.Int64Slice()
	if err != nil {
		return nil, err
	}
	if len(numbers) != want {
		return nil, fmt.Errorf("%w: %d numbers", errReply, len(numbers))
	}
	return numbers, nil
}
