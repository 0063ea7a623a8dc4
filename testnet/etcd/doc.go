// Command etcd is the other side of a comparison: three etcd servers on this machine, with their defaults, under as many
// clients as it is told, one line of standard input after the other:
//
//	put CLIENTS DURATION      linearizable writes of 256 bytes
//	get CLIENTS DURATION      linearizable reads of what was written
//	stale CLIENTS DURATION    serializable reads: what the asked server has
//
// To each it answers with one line of JSON (Result). It ends with its input, and takes the servers and their data with it.
//
// It owns how etcd is started and loaded; what is compared with it is testnet/figures' matter, which runs it. It is a module of
// its own, so that muster does not depend on etcd.
package main
