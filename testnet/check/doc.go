// Package check holds a fleet to its promises: pure functions over a History, which says what was asked, what was
// acknowledged, what ran by evidence outside the fleet, and what the fleet finally says of it.
//
// It decides and never looks: a History is filled by whoever drove the fleet, be it in virtual time, on hosts in namespaces,
// or by hand. Its invariants: a violation names the command, the node and the evidence; what a history does not tell (a zero
// time, an empty list) is not judged; the same history gives the same violations in the same order.
//
// A History is filled like this:
//
//   - every command that was asked for is an Order, with what its sender was told (Accepted, Refused, InDoubt);
//   - every run is a Run for each beginning that the evidence shows, so that two beginnings are two Runs;
//   - every status that anybody was told of is a Report, in the order in which they were told; the last one of a command
//     and node is what the fleet finally says. Whoever says nothing of a node gives no Report;
//   - Listed are the commands that the fleet knows in the end;
//   - what may excuse an uncertain end (a power cut, a full disk) is an Excuse, from when it began until it was over;
//   - changes other than commands are Writes, and Present is what there is in the end.
package check
