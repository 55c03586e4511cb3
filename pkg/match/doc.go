// Package match says which webhooks want an event: patterns over event types, scopes over labels
// and CEL filters over everything. It is pure (no I/O, no clock), so that routing an event a
// second time gives the same deliveries, and it holds nothing that could be lost: an Index is
// rebuilt from the configuration.
package match
