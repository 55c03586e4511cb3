package redisconn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxRedirects is how many nodes may send a command on: one because the slot has moved, and that one
// because the key is still on its way.
const maxRedirects = 2

// openCluster returns a client of a cluster.
func openCluster(opts *redis.ClusterOptions, log *slog.Logger) *redis.ClusterClient {
	opts.MaxRedirects = maxRedirects
	c := redis.NewClusterClient(opts)
	// Connections are made by the clients of the nodes, which have hooks of their own.
	c.OnNewNode(func(node *redis.Client) { node.AddHook(&watch{log: log}) })
	c.AddHook(&apart{client: c, timeout: opts.ReadTimeout})
	return c
}

// apart is a hook that keeps the nodes of a cluster apart from each other. By itself go-redis
//
//   - fails every command of a pipeline, also those that were answered, if the time is over while
//     it waits for one node. What the answers said, such as that a retry was claimed, is lost;
//   - sends what a node did not answer in time once more, whether or not it was done;
//   - asks who has which slots once a minute, and when it is redirected. A master that is dead
//     redirects nobody.
//
// So each node has a pipeline and a time limit of its own, nothing is sent twice unless a node sent
// it on, and whoever finds a node away has the client ask for the slots again.
type apart struct {
	client  *redis.ClusterClient
	timeout time.Duration
}

// DialHook leaves connections as they are; a cluster itself makes none.
func (a *apart) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook looks at what comes of single commands.
func (a *apart) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		a.look(ctx, err)
		return err
	}
}

// ProcessPipelineHook cuts a pipeline into one for each node.
func (a *apart) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 || cmds[0].Name() == "multi" {
			return next(ctx, cmds) // a transaction is of one node
		}
		nodes, err := a.byNode(ctx, cmds)
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		var all sync.WaitGroup
		for _, list := range nodes {
			all.Go(func() {
				limited, cancel := context.WithTimeout(ctx, a.timeout)
				defer cancel()
				_ = next(limited, list) // each command has its own error
			})
		}
		all.Wait()
		var first error
		for _, cmd := range cmds {
			if err := cmd.Err(); err != nil {
				a.look(ctx, err)
				if first == nil {
					first = err
				}
			}
		}
		return first
	}
}

// byNode sorts commands by the node that has their key's slot as far as the client knows.
func (a *apart) byNode(ctx context.Context, cmds []redis.Cmder) (map[*redis.Client][]redis.Cmder, error) {
	nodes := make(map[*redis.Client][]redis.Cmder)
	for _, cmd := range cmds {
		node, err := a.client.MasterForKey(ctx, keyOf(cmd))
		if err != nil {
			return nil, err
		}
		nodes[node] = append(nodes[node], once{cmd})
	}
	return nodes, nil
}

// keyOf is a command's first key. Those that have it elsewhere share a pipeline with others, and
// lose nothing else.
func keyOf(cmd redis.Cmder) string {
	at := 1
	if name := cmd.Name(); name == "eval" || name == "evalsha" {
		at = 3
	}
	if args := cmd.Args(); at < len(args) {
		key, _ := args[at].(string)
		return key
	}
	return ""
}

// look asks for the slots again, in the background, if a node did not answer.
func (a *apart) look(ctx context.Context, err error) {
	var reply redis.Error
	if err != nil && !errors.As(err, &reply) && !errors.Is(err, context.Canceled) && !errors.Is(err, redis.ErrClosed) {
		a.client.ReloadState(ctx)
	}
}

// once is a command that is not sent again after it may have been done.
type once struct{ redis.Cmder }

// NoRetry says so to go-redis.
func (once) NoRetry() bool { return true }
