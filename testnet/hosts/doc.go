// Command hosts brings up a fleet on hosts made of namespaces, and lets things go wrong on them:
//
//	go run ./testnet/hosts up --nodes 20
//	go run ./testnet/hosts shell n3
//	go run ./testnet/hosts fault cut n1 n2,n3
//	go run ./testnet/hosts down
//
// It is thin: testnet/lan does the work. Hosts and agents live on between two commands, until down.
package main
