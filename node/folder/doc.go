// Package folder is the data folder of one host: who it is, what it knows, and where the other rooms keep their files.
//
// It owns reading and writing of identity, host settings, record, floor, gossip keys and peer addresses, each with a
// format version and a checksum, each written whole or not at all. It never interprets what it keeps beyond verifying it,
// and never mends a damaged file by guessing: it says which file, where, and what to do.
//
// Layout, all 0700 and 0600:
//
//	lock          held by the agent that runs here
//	identity      keys and names of this host
//	host          address to bind, addresses to advertise
//	record        every act of the fleet's record, appended
//	floor         newest time and record that were ever seen here
//	gossip-keys   by epoch
//	peers         addresses of members, for the next start
//	told          highest sequence of what gossip was told of this host
//	quarantine    this host does nothing any more: its key is used elsewhere too
//	readmit       an operator's word that it works again, for the next start
//	founding      on the first host, until its first start
//	joining       keys of an enrolment that may have been counted, until it is known
//	params/       what this host has read of parameters, by a hash of the name
//	keyrings/     keys that this host shares with others, by the hash of their public side
//	raft/  ledger  runs/  reports/   kept by other rooms
package folder
