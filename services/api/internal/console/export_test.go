package console

// RouteInfo is a line of the route table, for tests that walk over all of it.
type RouteInfo struct {
	Method, Pattern string
	Portal          bool // it is one of the portal's
	Both            bool // the console and the portal have it
}

// Routes are those of every page of an account, and of every form.
func Routes() []RouteInfo {
	var out []RouteInfo
	for _, r := range accountRoutes() {
		out = append(out, RouteInfo{r.method, consolePattern(r), false, r.on == both})
		if r.on == both {
			out = append(out, RouteInfo{r.method, portalPattern(r), true, true})
		}
	}
	return out
}
