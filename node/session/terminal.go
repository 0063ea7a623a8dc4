package session

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// terminal is a pseudo-terminal: the supervisor's side of it, and the program's until that runs.
type terminal struct {
	ours   *os.File // never asked for its Fd: that would make it block, and nothing could interrupt a read
	theirs *os.File
}

// openTerminal makes one of the size that the client's has, that belongs to an account (uid; -1: it stays as it is).
func openTerminal(t auth.Terminal, uid int) (*terminal, error) {
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, noTerminal(err)
	}
	out := &terminal{ours: ours}
	if err := out.ready(t, uid); err != nil {
		out.close()
		return nil, noTerminal(err)
	}
	return out, nil
}

func noTerminal(err error) error {
	return fleet.Errorf(fleet.Unavailable, "this node has no terminal to give: %w", err).
		Hinted("mount devpts, or see how many it may have in /proc/sys/kernel/pty/max; exec without --tty needs none")
}

func (p *terminal) ready(t auth.Terminal, uid int) error {
	number := 0
	err := p.control(func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		return err
	}
	p.theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.readUTF8()
	if uid >= 0 {
		if err := p.theirs.Chown(uid, -1); err != nil {
			return err
		}
	}
	return p.resize(t.Rows, t.Cols)
}

// readUTF8 has the kernel erase whole characters: its own lines know bytes otherwise. Without it a terminal still works.
func (p *terminal) readUTF8() {
	_ = p.control(func(fd int) error {
		modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		modes.Iflag |= unix.IUTF8
		return unix.IoctlSetTermios(fd, unix.TCSETS, modes)
	})
}

func (p *terminal) resize(rows, cols uint16) error {
	return p.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
}

// foreground is the process group that reads the terminal; 0 if there is none. It may be gone, and its number another's.
func (p *terminal) foreground() (group int) {
	_ = p.control(func(fd int) (err error) {
		group, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		return err
	})
	return max(group, 0)
}

// endOfInput is the character that says so; 0: none does.
func (p *terminal) endOfInput() (char byte) {
	_ = p.control(func(fd int) error {
		modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil && modes.Lflag&unix.ICANON != 0 {
			char = modes.Cc[unix.VEOF]
		}
		return err
	})
	return char
}

func (p *terminal) control(do func(fd int) error) error {
	raw, err := p.ours.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// handedOver says that the program has its side.
func (p *terminal) handedOver() {
	if p.theirs != nil {
		p.theirs.Close()
		p.theirs = nil
	}
}

func (p *terminal) close() {
	p.handedOver()
	p.ours.Close()
}
