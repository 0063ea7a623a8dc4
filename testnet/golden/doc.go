// Package golden keeps the bytes of what hosts say to each other and write, so that no change of them goes unnoticed.
//
// It owns the comparison with a package's kept bytes (testdata/formats.golden, at most one file for each package), the
// values that types are filled with for it, and a test that no type which goes through node/fleet/wire is left out. It says
// nothing about what bytes mean, nor about JSON, which may gain fields.
//
// A format that is in a file never changes: programs of two versions run side by side, and one that decodes strictly refuses
// a field more. What is new gets a type, a kind, a purpose or an act of its own, behind a fleet level where it is agreed on.
package golden
