// Package outlet brings copies of a run's whole output, and of sessions' recordings, from their node to where the operator or the
// fleet wants them: a folder, the host's syslog, a bucket.
//
// It owns what a destination may be, how output is written to each, and the queue of copies that are still to be made,
// which survives restarts. It never decides which runs are copied, and never deletes what the node keeps.
//
// Invariants: a file or an object under its name is whole; a copy that was not made is made later, for a week, and then
// said to be given up, never forgotten; a copy may be made twice (a restart, a broken connection), which a folder and a
// bucket do not show; what does not fit into syslog is counted there, not dropped silently; no secret is in an error.
package outlet
