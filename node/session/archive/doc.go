// Package archive keeps on a server copies of the recordings of other nodes' sessions.
//
// It owns the folder: one file for a recording, one for its node's note, and how much room all of them have. It never verifies a
// note (the caller does, before it hands one in), never decides who reads, and opens no recording: of one that is sealed, it could
// not.
//
// Invariants: a recording that is listed is whole, on the disk, and has the digest that its node signed. What broke off goes on
// where it was, also after a restart. The room is bounded, what broke off and what is still to come among it; where there is too
// much, or the disk is full, the oldest of the node that has most goes, so that each keeps an equal share. Nothing is held in memory
// but a line for each recording, and one note at a time.
package archive
