// Package config decides what a host's own configuration says: which keys there are, what each may be, and which of several
// sources counts (pure: no file, environment, clock or log).
//
// It owns the table of keys, reading a configuration file (bounded, with the line of everything that is wrong), the order of
// precedence and where each value came from, the presets, what changes while an agent runs, and Consent: what a host's own
// root does not let operators do here.
//
// It never reads a file or a variable itself, and never holds what is the fleet's: settings that hold everywhere are signed by
// operators and live in node/auth.
//
// Invariants: a Config holds one valid value for every key; a key that nobody knows, or a value that is not allowed, is a
// Problem that names its place and never a guess.
package config
