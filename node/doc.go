// Package node decides what one host of the fleet does next.
//
// It owns Node.Step: an event comes in with the moment it happened, effects come out as data. It keeps what the host
// knows (the record, the members, the newest beacon, the orders it heard of, the reports it owes) and routes each
// decision to the room that makes it: exec judges orders, auth judges signatures. It is pure, so that the same code runs
// in the agent, in tests under virtual time and in simulations: no clock, no I/O, no goroutine; its randomness is a
// seed. It never performs an effect and never waits.
package node
