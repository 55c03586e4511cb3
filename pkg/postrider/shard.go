package postrider

import "github.com/cespare/xxhash/v2"

// Partitions is how many partitions webhooks hash to. Shards are sets of partitions, so the
// number of shards can change without any webhook changing its partition.
const Partitions = 256

// MaxShards is the largest number of shards: one partition each.
const MaxShards = Partitions

// PartitionOf is the partition of a webhook, in [0, Partitions).
func PartitionOf(webhook WebhookID) int {
	return int(xxhash.Sum64String(string(webhook)) % Partitions)
}

// ShardOf is the shard of a webhook when there are shards of them, in [0, shards). All
// deliveries of one webhook live on one shard, which makes its limits local to one dispatcher.
func ShardOf(webhook WebhookID, shards int) int { return PartitionOf(webhook) % shards }

// Layout is into how many shards deliveries are split. It changes while everything runs: a process may
// act on one that is not the newest for a moment, and what it puts on a shard that a webhook has left is
// handed on by whoever meets it there.
type Layout struct {
	// Version grows with each change.
	Version int
	// Shards is how many there are now, 1 to MaxShards.
	Shards int
	// Before is how many there were before the last change, for as long as something may be left on a
	// shard that its webhook has left; 0 afterwards.
	Before int
	// Streams is how many shards have streams: the most that there ever were. Those beyond Shards are
	// empty but for what a process puts there that has not learned of the change.
	Streams int
}

// Home is the shard that a webhook's deliveries go to.
func (l Layout) Home(webhook WebhookID) int { return ShardOf(webhook, l.Shards) }

// Homes are the shards on which something of a webhook may be, in the order to look: the one that it
// has left comes first, because what is there is on its way to its home, the last.
func (l Layout) Homes(webhook WebhookID) []int {
	home := l.Home(webhook)
	if l.Before > 0 {
		if left := ShardOf(webhook, l.Before); left != home {
			return []int{left, home}
		}
	}
	return []int{home}
}
