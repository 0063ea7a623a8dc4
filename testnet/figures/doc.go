// Command figures measures what muster costs and how quick it is: real agents on namespace hosts, one figure after the
// other, as a table for people and as JSON for machines.
//
// It owns how figures are taken, summed up and shown. A figure that misses its aim is printed as missed and fails nothing:
// the machine, and what else it does, decide it. What fails the command is what does not work: a fleet that does not form, a
// run that did not succeed everywhere.
//
//	go run ./testnet/figures --nodes 5,20,50
//	go run ./testnet/figures --nodes 20 --only true,idle --json figures.json
//	go run ./testnet/figures --only startup,small,release
//
// It needs root, for the namespaces. A new figure is a function in a file of its own and a line in measurements.
package main
