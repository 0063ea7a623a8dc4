package upgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/exec/runner"
	"github.com/muster-fleet/muster/node"
)

// A program of these tests is this test's own binary with a line behind its end: VERSION and how it behaves.
const mark = "\nfake-program "

// fakeName is argv[0] of a fake agent: fakeName SOCKET DATADIR.
const fakeName = "fake-agent"

func TestMain(m *testing.M) {
	version, how, fake := markOf("/proc/self/exe")
	switch {
	case !fake && len(os.Args) > 1 && os.Args[1] == "supervise":
		os.Exit(runner.Supervise(os.Args[2:]))
	case !fake && len(os.Args) > 1 && os.Args[1] == "act":
		os.Exit(actMain())
	case !fake:
		os.Exit(m.Run())
	case len(os.Args) == 4 && os.Args[1] == "version":
		fmt.Printf(`{"version": %q, "platform": "linux/amd64", "level": 2}`, version)
	case os.Args[0] == fakeName:
		fakeAgent(version, how, os.Args[1], os.Args[2])
	}
}

func markOf(path string) (version, how string, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", false
	}
	defer f.Close()
	end := make([]byte, 64)
	info, err := f.Stat()
	if err != nil {
		return "", "", false
	}
	if _, err := f.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return "", "", false
	}
	_, line, ok := strings.Cut(string(end), mark)
	version, how, _ = strings.Cut(line, " ")
	return version, how, ok
}

// fakeProgram writes one.
func fakeProgram(t *testing.T, path, version, how string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		pad := strings.Repeat("\n", 64)
		err = os.WriteFile(path, []byte(string(self)+pad+mark+version+" "+how), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fakeAgent answers status and restart at its socket.
func fakeAgent(version, how, socket, dataDir string) {
	program, err := os.Executable()
	if err != nil {
		os.Exit(1)
	}
	_ = os.WriteFile(filepath.Join(dataDir, "pid"), fmt.Append(nil, os.Getpid()), 0o600)
	for { // as long as the test wants it to be silent
		if _, err := os.Stat(filepath.Join(dataDir, "hold")); err != nil || how != "works" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	switch how {
	case "exits":
		os.Exit(1)
	case "hangs":
		time.Sleep(time.Minute)
	}
	s, err := Start(dataDir, program)
	if how == "replaced" { // as by a package
		_ = place(program, program+".dpkg", program)
		if f, err := os.OpenFile(program+".dpkg", os.O_APPEND|os.O_WRONLY, 0); err == nil {
			fmt.Fprint(f, " ")
			f.Close()
		}
		_ = os.Rename(program+".dpkg", program)
	}
	if err == nil && s.Again != "" {
		_ = syscall.Exec(s.Again, os.Args, os.Environ())
	}
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		line, _ := bufio.NewReader(conn).ReadString('\n')
		switch {
		case line == "restart\n" && how == "refuses":
			fmt.Fprintln(conn, "no")
		case line == "restart\n":
			fmt.Fprintln(conn, "yes")
			conn.Close()
			l.Close()
			_ = syscall.Exec(program, os.Args, os.Environ())
			os.Exit(1)
		default:
			fmt.Fprintln(conn, version)
		}
		conn.Close()
	}
}

// fakeClient asks a fake agent.
type fakeClient string

func (c fakeClient) ask(ctx context.Context, what string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", string(c))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until)
	}
	fmt.Fprintln(conn, what)
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}

func (c fakeClient) Status(ctx context.Context) (node.Status, error) {
	version, err := c.ask(ctx, "status")
	return node.Status{Version: version, Online: 1}, err
}

func (c fakeClient) Restart(ctx context.Context) error {
	said, err := c.ask(ctx, "restart")
	if err == nil && said != "yes" {
		err = errors.New("its configuration has a mistake")
	}
	return err
}
