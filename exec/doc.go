// Package exec decides about commands: what one says, whether this node may run it, what its ledger allows, and how the
// results of many nodes fold into one answer that a terminal can show.
//
// It is pure. Processes, files and the ledger on disk are exec/runner's; the order of commands is consensus's. It never
// starts anything: it says yes with a reason or no with a reason.
package exec
