// Package exec decides about commands: what one says, whether this node may run it, how it spreads over its nodes, what a
// node's ledger allows, and how the results of many nodes fold into one answer that a terminal can show.
//
// Its invariants: a Rollout keeps the bounds of its Pace whatever is asked of it; a ledger starts a command once; what
// Judge lets through was signed by an operator who may, for just this node.
//
// It is pure. Processes, files and the ledger on disk are exec/runner's; the texts of documents are read by exec/document;
// the order of commands, and who may propose a grant, is consensus's and the agent's. It never starts anything: it says yes
// with a reason or no with a reason.
package exec
