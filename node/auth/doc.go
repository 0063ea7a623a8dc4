// Package auth decides who may do what: signed statements, the charter, the roster, enrolment, policy, beacons, time.
//
// It owns the formats that must be verified before anything acts, and the one function, Record.Apply, by which both the
// quorum and every single node take in what was agreed. It is pure: keys, time and randomness come in as arguments. It
// never trusts an order of bytes: a statement is verified over its raw body first and decoded after. (A charter entry is
// decoded first, within its bound: how many roots it needs depends on its kind.)
//
// Invariants: a Record only grows; a charter entry is accepted only on top of the head it names; nothing that a node or
// server says of itself makes it an operator or a server.
package auth
