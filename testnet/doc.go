// Package testnet runs real fleets for tests: real agent processes on loopback addresses, started, killed and asked the
// way a person would.
//
// It owns the life of those processes and nothing else; every one is gone when its test ends. testnet/fabric is the
// in-memory network for tests in virtual time.
package testnet
