package runner

import (
	"slices"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// account is what a process of a user needs: read from /etc/passwd and /etc/group by ourselves, because a static binary
// has no name service switch, and the standard library leaves the shell out.
type account struct {
	Name   string
	UID    int
	GID    int
	Groups []int // supplementary, without GID
	Home   string
	Shell  string
}

// findAccount looks up a user by name, or by number.
func findAccount(passwd, group, user string) (account, error) {
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 || (f[0] != user && f[2] != user) {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			return account{}, fleet.Errorf(fleet.Invalid, "the line of user %q in /etc/passwd is not readable", user)
		}
		a := account{Name: f[0], UID: int(uid), GID: int(gid), Home: f[5], Shell: f[6]}
		a.Groups = groupsOf(group, a.Name, a.GID)
		return a, nil
	}
	return account{}, fleet.Errorf(fleet.NotFound, "there is no user %q on this node", user).
		Hinted("local users are those in /etc/passwd")
}

func groupsOf(group, name string, primary int) []int {
	var out []int
	for line := range strings.Lines(group) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 4 || !slices.Contains(strings.Split(f[3], ","), name) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && int(gid) != primary {
			out = append(out, int(gid))
		}
	}
	return out
}
