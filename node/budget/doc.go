// Package budget decides how an agent keeps to the memory and the processor time that its host leaves it: from samples of what its
// process takes it says when to give memory back, when to take no new sessions and nothing large, and when to start anew.
//
// It never measures, collects, refuses or restarts anything itself, and reads no clock: samples carry the time since boot.
//
// Invariants:
//   - Whatever the samples, what is refused is taken again once the process is well below its budget, unless it is started anew.
//   - No restart follows another within RestartEvery, also across restarts: the time of the last one is handed in.
//   - Without a budget nothing is ever done.
//   - Every act has a reason with the figures that led to it.
package budget
