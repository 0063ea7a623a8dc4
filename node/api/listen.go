package api

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Listen opens the socket at path, after taking away one that a dead agent left. The folder is made if it is missing,
// open to all; where it exists its own mode says who can reach the socket.
func Listen(path string) (net.Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot make the folder of the agent's socket: %w", err)
	}
	if err := clear(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fleet.Errorf(fleet.Unavailable, "cannot open the agent's socket: %w", err)
	}
	// Everyone may ask for the status; who may ask for more is judged by the kernel's word on each connection.
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, fleet.Errorf(fleet.Unavailable, "cannot open the agent's socket: %w", err)
	}
	return l, nil
}

func checkPath(path string) error {
	if len(path) > maxSocketPath {
		return fleet.Errorf(fleet.Invalid, "the socket's path has %d bytes; unix sockets allow %d: %s", len(path), maxSocketPath, path).
			Hinted("--socket SHORTER-PATH, for the agent and for every command")
	}
	return nil
}

// clear removes a socket that nobody listens on. Anything else at path stays.
func clear(path string) error {
	info, err := os.Lstat(path)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return fleet.Errorf(fleet.Unavailable, "cannot open the agent's socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fleet.Errorf(fleet.Conflict, "%s is there and is no socket", path).Hinted("move it away, or give another --socket")
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return fleet.Errorf(fleet.Conflict, "an agent answers at %s already", path).Hinted("muster --socket %s status", path)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fleet.Errorf(fleet.Unavailable, "cannot take the socket of a dead agent away: %w", err)
	}
	return nil
}
