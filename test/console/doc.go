// Package console walks through the web console and the portal as a person would, in a real browser,
// over the real system. It holds tests alone.
package console
