// Package document reads documents of Systems Manager's schemas 1.2, 2.0 and 2.2, checks what they are given, and makes
// of both the plan that one host executes.
//
// It is pure. It owns the format, the parameters and the safe way of a value into a shell script; it never fetches,
// publishes or runs anything. What it does not understand it refuses with the line.
package document
