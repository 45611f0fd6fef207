// Package sortedsets computes features over sliding windows the way they are
// most often built: a sorted set in Redis for each entity, events scored by
// their time, everything of a batch in one pipeline. Sluice measures itself
// against it, so it is written to be fast, and it is exact: the values of a
// transaction are as of that transaction, however many share its batch.
//
// The sorted set of an entity holds one member a transaction, scored by its time
// in Unix milliseconds:
//
//	fs:payer:u-1001 → 1763856930123:12850:42000012342026112300001   (time:amount:id)
//
// For each transaction and entity that is, in this order: ZADD, ZREMRANGEBYSCORE
// of what has left the longest window, the reads, EXPIRE. Connections share the
// entities out between them by hash, so that all commands of one entity travel
// in order, and the replies of one connection are parsed while Redis works for
// another.
//
// What it does not do is why Sluice does it otherwise: a batch that is sent
// again after a time-out sees members of transactions that come after it, a late
// transaction finds its window trimmed, other members of a group interleave, and
// a crash of Redis loses what its persistence had not written.
package sortedsets
