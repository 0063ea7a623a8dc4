package main

import (
	"os"
	osexec "os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// openTerminal opens a terminal: its person's end, and its program's.
func openTerminal(rows, cols uint16) (person, program *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	person = os.NewFile(uintptr(fd), "person") // it does not block, so that Close ends a Read
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		var number uint32
		if number, err = unix.IoctlGetUint32(fd, unix.TIOCGPTN); err == nil {
			program, err = os.OpenFile("/dev/pts/"+strconv.FormatUint(uint64(number), 10), os.O_RDWR|unix.O_NOCTTY, 0)
		}
	}
	if err == nil {
		err = resize(person, rows, cols)
	}
	if err != nil {
		person.Close()
		return nil, nil, err
	}
	return person, program, nil
}

func resize(terminal *os.File, rows, cols uint16) error {
	raw, err := terminal.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if failed != nil {
		return failed
	}
	return err
}

// startOn starts a program on a terminal, as the leader of a session of its own.
func startOn(cmd *osexec.Cmd, rows, cols uint16) (person *os.File, err error) {
	person, program, err := openTerminal(rows, cols)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		person.Close()
		return nil, err
	}
	return person, nil
}
