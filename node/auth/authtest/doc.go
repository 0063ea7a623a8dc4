// Package authtest founds fleets in memory for tests: roots, operators, tokens, nodes, each with a key that follows from
// a seed, so that a failing test fails again with the same bytes.
//
// It makes statements as the command line and the servers would, and takes them into a record as the quorum would. It
// never decides about them: what auth refuses is an error of Take, or, where the fixture itself needs it, a panic. It has
// no place in a shipped binary.
package authtest
