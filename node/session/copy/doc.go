// Package copy copies files between two ends of any stream of bytes: a person's command line, and a process on a node that
// runs as the account whose files they are.
//
// It owns both ends: the one that walks and reads, the one that writes and puts in place, and the main function of the far
// process. What they say to each other is decided by copy/talk. It opens no connection and asks nobody for leave: what may
// be read and written is what the system lets the account of each process read and write.
//
// Invariants: a file has its name when it is whole, and on the disk; no link within a tree is followed at either end,
// whoever changes the tree meanwhile (every step is taken from an open folder); no name leads out of the folder that a copy
// landed in; bits that give other rights than to read, write and run are not copied; what failed is said by name at both
// ends, and the rest is copied; memory and open files are bounded, whatever the trees hold.
package copy
