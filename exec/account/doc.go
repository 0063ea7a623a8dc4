// Package account finds what a process of a user needs: IDs, groups, home, shell, the environment it starts with, and the
// program that a name means in it.
//
// It reads /etc/passwd and /etc/group by itself, because a static binary has no name service switch and the standard
// library leaves the shell out: users of LDAP and the like are not found. It never decides who may act as whom.
//
// Invariants: an environment starts from nothing, so that neither the agent's variables nor LD_*, BASH_ENV, ENV or IFS reach
// a process unless its order gives them; a program is never found through a relative entry of PATH.
package account
