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
