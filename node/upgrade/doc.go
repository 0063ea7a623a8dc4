// Package upgrade changes the program of one host's agent while it works, and changes it back where the new one is no good.
//
// It owns the trial machine (what a start, a look or the passing of time means, as pure functions over Trial), the file
// `upgrade` in the data folder that carries a trial over restarts and power cuts, the swap of the program on the disk, and the
// watch over an agent that was given another program (Order.Carry). It never decides who is upgraded or when, verifies no signature
// and fetches nothing: who calls it brings a program that somebody has verified. It knows the agent by its socket's
// process and by the interface Agent alone.
//
// Invariants:
//   - At every moment the program's path holds one whole program: the old or the new one. A rename is the only change.
//   - The old program lies beside it until the trial is over.
//   - What stands in the file `upgrade` is written before what it tells of is done, so that every start can finish or undo it.
//   - A program at the path that is neither the old nor the new one is somebody else's, a package's for example: it is left
//     alone, and the trial is over.
//
// DESIGN.md beside it says why.
package upgrade
