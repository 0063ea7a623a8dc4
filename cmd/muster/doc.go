// Command muster is the fleet agent and its command line, in one binary. One file holds one noun of the command line.
//
// The command line owns flags, keys on disk and what people read; it never decides what nodes do: it signs orders with
// the operator's key, hands them to the local agent, and shows what came of them. Its invariants: answers go to standard
// output and everything said about them to standard error; text that came from nodes reaches a terminal only through
// exec.Printable; secrets are never arguments.
//
// Errors have two lines: "muster: what went wrong" and "  → the command that mends it".
package main
