// Command chaos breaks a fleet of real agents on hosts of namespaces in every way that it knows, asks it for work all the
// while, and then holds it to its promises (testnet/check).
//
//	go run ./testnet/chaos --seed 7 --minutes 3
//
// It owns the plan, its execution and the verdict. The plan is pure: the same seed gives the same steps. Every step goes
// into a trace with what came of it, and --replay executes a trace's steps again. What runs on the hosts leaves notes
// outside the agents' folders; they, and not the agents, say what really ran. What parameters and secrets there must be is
// known by what those who put them were told.
//
// Invariants: every fault that begins has its end in the plan, and at the end of a round everything is whole, so that a
// fleet which keeps its promises always comes to rest; a session in which too little happened fails like one that broke a
// promise.
package main
