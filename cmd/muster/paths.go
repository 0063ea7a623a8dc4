package main

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Where a system's agent keeps its data and its socket.
const (
	systemData   = "/var/lib/muster"
	systemSocket = "/run/muster/agent.sock"
	socketName   = "agent.sock"
	identityName = "operator.key"
	rootKeyName  = "root.key"
)

// dataDir returns the agent's folder: as told, else the system's for root, else the person's own.
func (a *app) dataDir() string {
	if dir := a.givenDataDir(); dir != "" {
		return dir
	}
	if a.euid == 0 {
		return systemData
	}
	return filepath.Join(cmp.Or(a.getenv("XDG_DATA_HOME"), filepath.Join(a.getenv("HOME"), ".local", "share")), "muster")
}

func (a *app) givenDataDir() string { return cmp.Or(a.flags.dataDir, a.getenv("MUSTER_DATA_DIR")) }

// socketPath returns the local agent's socket. Without any setting, somebody who is not root means their own agent if
// they ever had one, else the system's.
func (a *app) socketPath() string {
	if path := cmp.Or(a.flags.socket, a.getenv("MUSTER_SOCKET")); path != "" {
		return path
	}
	own := filepath.Join(a.dataDir(), socketName)
	switch {
	case a.givenDataDir() != "":
		return own
	case a.euid == 0:
		return systemSocket
	case !exists(own) && exists(systemSocket):
		return systemSocket
	}
	return own
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// identityPath returns the file of the operator's key. It belongs to the person: under sudo it is in the caller's home.
func (a *app) identityPath() string {
	if path := cmp.Or(a.flags.identity, a.getenv("MUSTER_IDENTITY")); path != "" {
		return path
	}
	if caller, ok := a.sudoCaller(); ok {
		return filepath.Join(caller.home, ".config", "muster", identityName)
	}
	return filepath.Join(cmp.Or(a.getenv("XDG_CONFIG_HOME"), filepath.Join(a.getenv("HOME"), ".config")), "muster", identityName)
}

// rootKeyPath returns the file of the root key, beside the operator's: root.key beside operator.key, else the same name
// with .root.key.
func (a *app) rootKeyPath() string {
	path := a.identityPath()
	if filepath.Base(path) == identityName {
		return filepath.Join(filepath.Dir(path), rootKeyName)
	}
	return strings.TrimSuffix(path, ".key") + ".root.key"
}

// owner is whom a file shall belong to.
type owner struct {
	uid, gid int
	home     string
	name     string
}

// sudoCaller returns who called sudo, if that is how this runs.
func (a *app) sudoCaller() (owner, bool) {
	if a.euid != 0 {
		return owner{}, false
	}
	uid, err := strconv.Atoi(a.getenv("SUDO_UID"))
	if err != nil || uid == 0 {
		return owner{}, false
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return owner{}, false
	}
	gid, err := strconv.Atoi(u.Gid)
	return owner{uid, gid, u.HomeDir, u.Username}, err == nil
}

// keyOwner returns to whom the operator's files belong.
func (a *app) keyOwner() owner {
	if caller, ok := a.sudoCaller(); ok {
		return caller
	}
	return owner{uid: a.euid, gid: -1, home: a.getenv("HOME"), name: cmp.Or(a.getenv("USER"), a.getenv("LOGNAME"))}
}

// personName makes a name that the charter takes out of the account's name.
func (a *app) personName() string {
	var b strings.Builder
	for _, r := range strings.ToLower(a.keyOwner().name) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	name := b.String()
	return cmp.Or(strings.Trim(name[:min(len(name), 63)], "-"), "operator")
}
