package rpc

import (
	"strings"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// staticScheme is for services whose replicas no name resolves to: "static:///host:port,host:port".
const staticScheme = "static"

// staticResolver gives the addresses of such a target; nil for other targets.
func staticResolver(target string) resolver.Builder {
	list, ok := strings.CutPrefix(target, staticScheme+":///")
	if !ok {
		return nil
	}
	r := manual.NewBuilderWithScheme(staticScheme)
	var state resolver.State
	for address := range strings.SplitSeq(list, ",") {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address}}})
	}
	r.InitialState(state)
	return r
}
