// Package document reads documents of Systems Manager's schemas 1.2, 2.0 and 2.2, checks what they are given, and makes
// of both the plan that one host executes; and session documents (schema 1.0), of which it makes what a session is.
//
// It is pure. It owns the format, the parameters and the safe way of a value into a shell script; it never fetches,
// publishes or runs anything. What it does not understand it refuses with the line.
//
// What documents, values and environments refer to in the parameter store ({{ ssm:NAME }}, {{ ssm-secure:NAME }}) is pinned by
// whoever signs a command; a document is bound to these pins, and nothing is looked up here.
//
// Invariants: no value is ever a part of a script's text, but for a parameter that is itself a script, and then RawShell
// says so. A value is put in once and never looked into again. A document that was parsed can be planned for all values
// that Complete takes, but for what those values alone decide (a timeout, a nested document). The same document and
// values make the same plan everywhere. No secret is ever in a plan: it refers to secrets by number, in the environment of a
// step's process and in the input of an action, and nowhere else.
package document
