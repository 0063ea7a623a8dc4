// Package consensus is the replicated state: what is agreed, in which order, and what each entry does to it.
//
// It owns the entry types, State.Apply and the canonical snapshot. It is pure and deterministic: time is the leader's
// stamp, refusals are values, every list is bounded, and replicas compare by hash. It never elects, stores or sends;
// consensus/quorum does.
package consensus
