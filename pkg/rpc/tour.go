package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
)

// inTurn is the policy of every client: each server in turn, except where a Tour says otherwise.
const inTurn = "postrider_in_turn"

func init() { balancer.Register(inTurnBuilder{}) } // the registry is open only now

// Tour asks the servers behind one connection one after another, for what only one of them knows:
//
//	for tour := rpc.NewTour(); !tour.Over(); {
//		resp, err := client.GetThing(tour.Context(ctx), req)
//		...
//	}
//
// Servers that cannot be reached are left out; one that is just being connected is waited for, as
// long as the call's context lets it. It serves one connection, and is safe for concurrent use.
type Tour struct {
	mu    sync.Mutex
	asked map[string]bool // addresses
	over  bool
}

// NewTour returns a tour that has asked nobody.
func NewTour() *Tour { return &Tour{asked: map[string]bool{}} }

type tourKey struct{}

// Context is that of the tour's next call, which goes to a server that was not asked.
func (t *Tour) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, tourKey{}, t)
}

// Over reports whether nobody is left to ask.
func (t *Tour) Over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

// next chooses a server that was not asked. It is nil if there is none; wait then says that one may
// yet come.
func (t *Tour) next(servers []endpointsharding.ChildState) (chosen balancer.Picker, wait bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	for _, s := range servers {
		address := ""
		if len(s.Endpoint.Addresses) > 0 {
			address = s.Endpoint.Addresses[0].Addr
		}
		switch {
		case t.asked[address]:
		case s.State.ConnectivityState == connectivity.Ready && chosen == nil:
			chosen = s.State.Picker
			t.asked[address] = true
		case s.State.ConnectivityState != connectivity.TransientFailure:
			t.over = false
		}
	}
	return chosen, !t.over
}

// inTurnBuilder builds a round robin that lets a Tour choose.
type inTurnBuilder struct{}

// Name is the policy's in a service config.
func (inTurnBuilder) Name() string { return inTurn }

// Build builds the round robin.
func (inTurnBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return balancer.Get(roundrobin.Name).Build(touredConn{cc}, opts)
}

// touredConn puts a tourPicker around each picker on its way to the connection.
type touredConn struct{ balancer.ClientConn }

// UpdateState hands a state on.
func (c touredConn) UpdateState(s balancer.State) {
	s.Picker = &tourPicker{Picker: s.Picker, servers: endpointsharding.ChildStatesFromPicker(s.Picker)}
	c.ClientConn.UpdateState(s)
}

type tourPicker struct {
	balancer.Picker
	servers []endpointsharding.ChildState
}

// Pick picks as the round robin does, or for the tour that a call belongs to.
func (p *tourPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	t, _ := info.Ctx.Value(tourKey{}).(*Tour)
	if t == nil {
		return p.Picker.Pick(info)
	}
	chosen, wait := t.next(p.servers)
	switch {
	case chosen != nil:
		return chosen.Pick(info)
	case wait:
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	return p.Picker.Pick(info)
}
