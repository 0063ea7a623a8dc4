// Package cage holds the processes of one supervisor together: it forks them into a cgroup of their own where it can, finds
// all that came of them, and kills them.
//
// It owns our cgroups, the walks through /proc, and what else agent and supervisor of a run or a session share: the boot
// clock, files in memory, a socket in a folder of any length, and the block that tells how it ended. It never decides who
// is killed and when.
//
// Invariants: a child is never outside its cgroup, not for an instant; each of cgroup and subreaper alone kills what calls
// setsid, forks twice or clears its environment; no process is hit by a PID that another had before.
package cage
