// Package report is a server's durable store of what nodes report: the newest report of each command and node, and the
// newest facts of each node, as the statements that the nodes signed.
//
// It owns the file reports.db: what is in it, when it is synced, how it is read back, watched and pruned. It never
// verifies (the caller opens the statement first), never decides which of two reports counts (exec.Supersedes does), and
// never sends.
//
// Invariants: what Put acknowledged is on the disk. The reports of a command come out the same in whatever order and
// however often they came in. A watcher never delays Put and never misses the newest report of a node. Memory is bounded
// by what one call returns, a batch of puts, and one node ID per report that a watcher has not seen yet.
package report
