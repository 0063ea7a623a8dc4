package copy

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet"
)

// troubleAt says in words for people what the system said of a path.
func troubleAt(path string, err error) *fleet.Error {
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*Elsewhere](err); ok {
		return e.plain()
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fleet.Errorf(fleet.NotFound, "there is no %s", path)
	case errors.Is(err, fs.ErrPermission):
		return fleet.Errorf(fleet.Denied, "%s: the account may not do that", path).Hinted("--user names another account, if policy allows it")
	case isFull(err):
		return fleet.Errorf(fleet.Exhausted, "the disk is full at %s: %w", path, err).Hinted("free some space there, then repeat with --resume")
	case errors.Is(err, syscall.EROFS):
		return fleet.Errorf(fleet.Denied, "%s is on a file system that is read-only", path)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return fleet.Errorf(fleet.Conflict, "%s is a link, or no folder: it is not followed", path).Hinted("name what it points to")
	case errors.Is(err, syscall.EISDIR), errors.Is(err, fs.ErrExist):
		return fleet.Errorf(fleet.Conflict, "a folder is in the way at %s", path)
	}
	return fleet.Errorf(fleet.Internal, "%s: %w", path, err)
}

// isFull reports whether there is no room for more, so that trying other files is of no use.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
