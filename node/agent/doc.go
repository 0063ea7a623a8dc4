// Package agent is the loop of one host: it turns what happens into events for node.Step and effects into work.
//
// It owns the order of events, the serving of peers' requests, and what the other shells must agree about (the record
// that everybody reads, the orders that peers may fetch). It meets every other shell through the small interfaces of
// shells.go, and decides nothing: whatever reads like a decision belongs into node, exec, auth or consensus.
//
// Invariants: Step runs on one goroutine; an act is durable before anybody reads the record that has it; no request of a
// peer is answered before its statement was verified.
package agent
