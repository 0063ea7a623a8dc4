// Package params decides about parameters and secrets: names, versions, labels, tiers, policies, what a change may do and
// how a secret is sealed for those who may read it.
//
// It owns the formats of changes, contents and answers, the rules by which one value of a parameter becomes the next, what
// a reader checks, and the sealing of values and of keyrings' seeds. It is pure: it has no clock, stores nothing, asks
// nobody, and asks policy nothing. The one thing that does not follow from its inputs is a sealed value, for HPKE draws
// randomness of its own.
//
// Its invariants: a Put fits one place in one parameter's life, so that no change is taken twice; a reader believes only
// what an operator signed; a sealed value opens at one place, for the readers that its Put names, or not at all; whatever
// comes from a peer costs memory in proportion to its size.
package params
