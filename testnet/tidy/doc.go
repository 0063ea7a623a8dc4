// Package tidy holds the rules of the house as tests: who may import whom, what the pure rooms may not touch, what must be
// documented, where state may live, which tests may be skipped, and that the README draws the house as it stands.
//
// It owns the tables of those rules and nothing else; it has no code outside its tests. Each rule is a function from the
// parsed sources to a list of violations, so that a test can plant one and see it caught. A line of a table is how the
// house agrees to an exception: it carries the reason, and a test fails when nothing needs it any more.
package tidy
