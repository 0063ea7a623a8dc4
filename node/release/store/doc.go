// Package store keeps releases on a host's disk: the manifest as it was signed, the packed builds or as much of them as there is,
// and the binary of this host's architecture, unpacked.
//
// It owns the folder releases/ of the data folder. It never decides who is to be trusted: it is given manifests that were
// verified, and holds every chunk to their digests, when it is written and again when it is read. It never asks anybody for
// anything.
//
// Invariants:
//   - At most MaxReleases releases and MaxBytes bytes lie there; what is being fetched or read in makes no way for another.
//   - A chunk counts as here only if its bytes on the disk have the manifest's digest, so a crash or a power loss at any moment
//     costs chunks and never truth.
//   - A disk that gets full leaves nothing of the release that filled it.
//   - The path that Unpack returns names a file that was synced whole, and whose digest was verified since this call began.
package store
