package account

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// Account is what a process of a user needs.
type Account struct {
	Name   string
	UID    int
	GID    int
	Groups []int // supplementary, without GID
	Home   string
	Shell  string
}

// Credential is the account for a process that is forked by root.
func (a Account) Credential() *syscall.Credential {
	groups := make([]uint32, len(a.Groups))
	for i, id := range a.Groups {
		groups[i] = uint32(id)
	}
	return &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID), Groups: groups}
}

// Find looks up a user by name, or by number, in the texts of /etc/passwd and /etc/group. It is NotFound when there is none,
// Invalid when his line cannot be read.
func Find(passwd, group, user string) (Account, error) {
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) != 7 || (f[0] != user && f[2] != user) {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			return Account{}, fleet.Errorf(fleet.Invalid, "the line of user %q in /etc/passwd is not readable", user)
		}
		a := Account{Name: f[0], UID: int(uid), GID: int(gid), Home: f[5], Shell: f[6]}
		a.Groups = groupsOf(group, a.Name, a.GID)
		return a, nil
	}
	return Account{}, fleet.Errorf(fleet.NotFound, "there is no user %q on this node", user).
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

// Resolve finds the account to act as on this host, and whether that means dropping to it; "" is the account of this
// process. It is NotFound when there is no such user, Denied when this process is not root and would have to be.
func Resolve(user string) (who Account, drop bool, err error) {
	self := os.Geteuid()
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil && user != "" {
		return who, false, fleet.Errorf(fleet.Unavailable, "cannot look up user %q: %w", user, err)
	}
	group, _ := os.ReadFile("/etc/group") // without it a user has no supplementary groups
	if user == "" {
		if who, err = Find(string(passwd), string(group), strconv.Itoa(self)); err != nil { // a container may have no such line
			who = Account{Name: strconv.Itoa(self), UID: self, GID: os.Getegid(), Home: "/", Shell: "/bin/sh"}
		}
		return who, false, nil
	}
	if who, err = Find(string(passwd), string(group), user); err != nil {
		return who, false, err
	}
	if who.UID == self {
		return who, false, nil
	}
	if self != 0 {
		return who, false, fleet.Errorf(fleet.Denied, "this agent does not run as root and cannot run commands as %q", user)
	}
	return who, true, nil
}
