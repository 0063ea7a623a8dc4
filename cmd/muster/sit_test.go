package main

import (
	"bytes"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/fleet"
)

// screenWait bounds how long a test waits for something on a screen; it bounds hangs, and is no promise.
const screenWait = 20 * time.Second

// person sits before a terminal on which muster runs.
type person struct {
	t        *testing.T
	town     *town
	cmd      *osexec.Cmd
	terminal *os.File
	program  *os.File // the other end, kept open so that its state can be looked at
	ended    chan error

	mu     sync.Mutex
	shown  bytes.Buffer
	looked int           // up to where it was read
	more   chan struct{} // closed when there is more
}

// sitDown starts muster with args on a terminal of 30 rows and 100 columns, in a town of two nodes.
func sitDown(t *testing.T, args ...string) *person {
	t.Helper()
	w, err := newTown(2)
	if err != nil {
		t.Fatal(err)
	}
	w.openDoors(t)
	dir := t.TempDir()
	w.open(t, dir, dir)
	bin := filepath.Join(t.TempDir(), "muster") // the name by which this test binary becomes muster
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, bin)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, town: w, ended: make(chan error, 1), more: make(chan struct{})}
	if p.terminal, p.program, err = openTerminal(30, 100); err != nil {
		t.Fatal(err)
	}
	p.cmd = osexec.Command(bin, args...)
	p.cmd.Env = append(os.Environ(), "HOME="+dir, "MUSTER_DATA_DIR="+dir, "TERM=xterm")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.program, p.program, p.program
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read()
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.program.Close()
		p.terminal.Close()
	})
	return p
}

func (p *person) read() {
	b := make([]byte, 4096)
	for {
		n, err := p.terminal.Read(b)
		p.mu.Lock()
		p.shown.Write(b[:n])
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *person) types(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.terminal, text); err != nil {
		p.t.Fatal(err)
	}
}

// sees waits until the screen shows text, behind what was seen before.
func (p *person) sees(text string) {
	p.t.Helper()
	late := time.After(screenWait)
	for {
		p.mu.Lock()
		unseen := p.shown.String()[p.looked:]
		at := strings.Index(unseen, text)
		if at >= 0 {
			p.looked += at + len(text)
		}
		more := p.more
		p.mu.Unlock()
		if at >= 0 {
			return
		}
		select {
		case <-more:
		case <-late:
			p.t.Fatalf("%q is not shown; after what was seen, there is %q", text, unseen)
		}
	}
}

// exits waits for muster's end, which must leave the terminal as it was.
func (p *person) exits(want int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(screenWait):
		p.t.Fatal("muster does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit %d, want %d; %q", got, want, p.shown.String())
	}
	state, err := unix.IoctlGetTermios(int(p.program.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	if state.Lflag&unix.ECHO == 0 || state.Lflag&unix.ICANON == 0 || state.Lflag&unix.ISIG == 0 || state.Oflag&unix.OPOST == 0 {
		p.t.Error("the terminal stays raw")
	}
}

func (p *person) door() *door {
	p.town.mu.Lock()
	defer p.town.mu.Unlock()
	return p.town.doors[p.town.byName("web01").ID]
}

// A shell has the terminal, its size and its changes, Ctrl-C goes to what runs in it, and its code is passed through.
func TestShell(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	p.types("stty size; echo term=$TERM\r")
	p.sees("30 100\r\nterm=xterm\r\n$ ")
	if err := resize(p.terminal, 40, 120); err != nil {
		t.Fatal(err)
	}
	p.types("while ! stty size | grep '40 120'; do :; done\r")
	p.sees("\n40 120\r\n$ ")
	p.types("cat\r")
	p.types("meow\r")
	p.sees("\nmeow\r\nmeow\r\n") // it runs
	p.types("\x03")
	p.sees("^C\r\n$ ")
	p.types("exit 7\r")
	p.exits(7)
}

// What is typed behind ~ at the beginning of a line is muster's, and ~. leaves nothing running.
func TestShellEscapes(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	p.types("~?")
	p.sees("~.   end the session\r\n")
	p.types("echo $((40+2)) ~.\r")
	p.sees("42 ~.\r\n")
	p.types("sleep 1000\r~.")
	p.sees("you ended the session")
	p.exits(exitOurs)
	for _, s := range p.door().states() {
		if s.Ended == 0 {
			t.Errorf("session %s runs on", s.ID)
		}
	}
}

// A connection that ends ends nothing: what is shown goes on where it was.
func TestShellOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	p.types("v=kept\r")
	p.sees("$ ")
	for range 3 {
		p.door().cut()
		p.types("for i in $(seq 1 2000); do echo line $i $v; done\r")
		p.sees("line 1 kept\r\n")
		p.door().cut()
		p.sees("line 2000 kept\r\n$ ")
	}
	p.mu.Lock()
	shown := p.shown.String()
	p.mu.Unlock()
	if n := strings.Count(shown, "\nline 1000 kept\r"); n != 3 {
		t.Errorf("the middle of three outputs is shown %d times", n)
	}
	p.types("exit\r")
	p.exits(0)
}

// A node that is not heard is told at the top of the screen, for as long, and what was typed meanwhile arrives.
func TestShellSilence(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	p.door().refuses(fleet.Errorf(fleet.Unavailable, "not now"))
	p.door().cut()
	p.types("echo $((6*7))\r")
	p.sees("\x1b7\x1b[1;1H\x1b[0m\x1b[2K\x1b[7m nothing is heard from web01;")
	p.door().refuses(nil)
	p.sees("\x1b7\x1b[1;1H\x1b[0m\x1b[2K\x1b8")
	p.sees("42\r\n$ ")
	p.types("exit\r")
	p.exits(0)
}

// Whoever is killed reads by whom, on a terminal that works again.
func TestShellKilled(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	p.types("printf '\\033[?1049h\\033[?25lfull'; read x\r")
	p.sees("full")
	d := p.door()
	d.mu.Lock()
	for _, g := range d.guests {
		g.state.Why = "killed by bob: maintenance"
		g.kill()
	}
	d.mu.Unlock()
	p.sees(sane)
	p.sees("the session on web01 was ended: killed by bob: maintenance")
	p.exits(exitOurs)
}

// SIGTERM ends the session and gives the terminal back.
func TestShellTerminated(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.exits(exitOurs)
	for _, s := range p.door().states() {
		if s.Ended == 0 {
			t.Errorf("session %s runs on", s.ID)
		}
	}
}

// Ctrl-Z of muster's own gives the terminal to the shell that it was started from, and takes it again.
func TestShellSuspends(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01")
	p.sees("$ ")
	p.types("~\x1a")
	p.sees("suspended")
	// Its process group is an orphan here, where the kernel lets nobody stop: it goes on at once.
	p.types("echo $((6*7))\r")
	p.sees("42\r\n$ ")
	p.types("exit\r")
	p.exits(0)
}

// Ctrl-C once is the program's, twice is the end of the session.
func TestExecInterrupted(t *testing.T) {
	t.Parallel()
	w, err := newTown(1)
	if err != nil {
		t.Fatal(err)
	}
	w.openDoors(t)
	dir := t.TempDir()
	w.open(t, dir, dir)
	pressed := make(chan os.Signal, 2)
	var errs strings.Builder
	a := &app{
		stdin: strings.NewReader(""), stdout: presser{pressed}, stderr: &errs, euid: os.Geteuid(),
		getenv:     func(name string) string { return map[string]string{"HOME": dir, "MUSTER_DATA_DIR": dir}[name] },
		interrupts: func() (<-chan os.Signal, func()) { return pressed, func() {} },
	}
	// It says one word at once, and one more at the first Ctrl-C: each makes a Ctrl-C.
	code := runApp(t.Context(), a, []string{"exec", "web01", "--", "trap 'echo no' INT; echo begun; while :; do sleep 0.1; done"})
	if code != exitOurs || !strings.Contains(errs.String(), "you ended the session") {
		t.Errorf("exit %d, %q", code, errs.String())
	}
	for _, s := range w.doors[w.byName("web01").ID].states() {
		if s.Ended == 0 {
			t.Errorf("session %s runs on", s.ID)
		}
	}
}

// presser presses Ctrl-C whenever something is written.
type presser struct{ pressed chan os.Signal }

func (p presser) Write(b []byte) (int, error) {
	select {
	case p.pressed <- os.Interrupt:
	default:
	}
	return len(b), nil
}
