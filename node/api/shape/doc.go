// Package shape holds the JSON shapes of the local API and of the command line's -o json: which fields there are, what
// they are called, and how they turn into the fleet's own values and back.
//
// It owns names and forms only; it never reads a socket, judges a signature or invents a value. Its invariants: a field
// once published keeps its name and meaning, lists and maps are never null, and a value that went through Of… and back is
// the same value.
//
// IDs have two forms. On the API's wire they are written in full (52 characters), so that a program can sign with them:
// Marshal and Unmarshal do that. encoding/json writes the same shapes with the 26 characters that screens show.
package shape
