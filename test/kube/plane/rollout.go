package plane

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/test/kube/manifest"
	"github.com/postrider/postrider/test/kube/pod"
)

// Up starts every deployment and returns when all of their pods are available.
func (c *Cluster) Up(ctx context.Context) error {
	for _, d := range c.set.Deployments {
		for range replicas {
			if _, err := c.create(d); err != nil { //nolint:contextcheck // a pod outlives the call that starts it
				return err
			}
		}
	}
	for _, d := range c.set.Deployments {
		if err := c.await(ctx, func() bool { return c.available(d, c.Pods(d.Metadata.Name)) == replicas }); err != nil {
			return fmt.Errorf("deployment %s: %w", d.Metadata.Name, err)
		}
	}
	return nil
}

// Replace starts a pod in place of one that was lost, and returns when it is available.
func (c *Cluster) Replace(ctx context.Context, deployment string, lost *pod.Pod) (*pod.Pod, error) {
	d := c.set.Deployments[deployment]
	if err := c.remove(deployment, lost); err != nil {
		return nil, err
	}
	fresh, err := c.create(d) //nolint:contextcheck // a pod outlives the call that starts it
	if err != nil {
		return nil, err
	}
	return fresh, c.await(ctx, func() bool { return c.available(d, []*pod.Pod{fresh}) == 1 })
}

// available is how many of the pods have been ready for as long as the deployment asks.
func (*Cluster) available(d *manifest.Deployment, pods []*pod.Pod) int {
	n := 0
	for _, p := range pods {
		if since, ready := p.ReadyFor(); ready && since >= time.Duration(d.Spec.MinReadySeconds)*time.Second {
			n++
		}
	}
	return n
}

// await returns when something holds, or when a pod did what it should not.
func (c *Cluster) await(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond) // time alone makes pods available
	defer tick.Stop()
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if err := c.Faults(); err != nil {
			return err
		}
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Rollout replaces every pod of a deployment as its strategy says: no more than its surge beside
// the replicas, and never fewer available than it allows. It returns how each old pod stopped.
func (c *Cluster) Rollout(ctx context.Context, deployment string) ([]pod.Drain, error) {
	d := c.set.Deployments[deployment]
	if d.Spec.Strategy.Type != "RollingUpdate" {
		return nil, fmt.Errorf("deployment %s: this does not know the strategy %s", deployment, d.Spec.Strategy.Type)
	}
	most := replicas + d.Spec.Strategy.RollingUpdate.MaxSurge.Surge(replicas)
	least := replicas - d.Spec.Strategy.RollingUpdate.MaxUnavailable.Unavailable(replicas)
	old, fresh := c.Pods(deployment), []*pod.Pod{}
	var stopping sync.WaitGroup
	var mu sync.Mutex
	var drains []pod.Drain
	var failure error
	defer stopping.Wait()
	for len(old) > 0 || c.available(d, fresh) < replicas {
		for len(fresh) < replicas && len(old)+len(fresh) < most {
			p, err := c.create(d) //nolint:contextcheck // a pod outlives the call that starts it
			if err != nil {
				return nil, err
			}
			fresh = append(fresh, p)
		}
		before := len(old)
		for len(old) > 0 && c.available(d, slices.Concat(old, fresh)) > least {
			p := old[0]
			old = old[1:]
			told := make(chan struct{})
			stopping.Go(func() {
				drain, err := c.terminate(ctx, deployment, p, told)
				mu.Lock()
				defer mu.Unlock()
				drains = append(drains, drain)
				if err != nil {
					failure = err
				}
			})
			<-told
		}
		if len(old) == before {
			seen := c.available(d, slices.Concat(old, fresh))
			if err := c.await(ctx, func() bool { return c.available(d, slices.Concat(old, fresh)) != seen }); err != nil {
				return nil, fmt.Errorf("roll out %s: %w", deployment, err)
			}
		}
	}
	stopping.Wait()
	return drains, failure
}

// terminate stops one pod and says when it no longer counts as available.
func (c *Cluster) terminate(ctx context.Context, deployment string, p *pod.Pod, told chan<- struct{}) (pod.Drain, error) {
	drain, err := p.Terminate(ctx, told)
	if err != nil {
		return drain, fmt.Errorf("%w\n%s", err, p.Process().Tail(20))
	}
	return drain, c.remove(deployment, p)
}
