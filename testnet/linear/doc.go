// Command linear judges whether parameters are linearizable: clients on every host of a fleet put, compare and set, delete,
// label and read the same few parameters while hosts are killed, paused and cut off and while the lead changes hands, and a
// checker looks for an order of all that they saw which one host alone could have produced.
//
// It owns the model of one parameter, the clients, the plan of faults and the verdict. It decides nothing by a clock of its
// own: what a client saw, and when, is all that counts. A history in which little was done is a failure, as is one that the
// checker cannot judge in time.
//
// Two fleets can be judged: hosts of one process in virtual time, as a test (bubble_test.go), and real agents on namespace
// hosts, as this command:
//
//	go test ./testnet/linear -run Histories -linear.histories 1000 -linear.seed 1 -linear.done FILE
//	go run ./testnet/linear --histories 20 --seed 1 --done FILE
//
// History n of a seed is the same plan wherever it runs. What is in FILE was judged before and is passed over.
package main
