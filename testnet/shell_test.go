package testnet

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// screen is a terminal that a person would sit at, drawn by tmux.
type screen struct {
	t      *testing.T
	f      *Fleet
	socket string
}

// sit opens a terminal of 100 columns and 30 rows in which a command line runs; its exit code is shown when it ends.
func sit(t *testing.T, f *Fleet, n *Node, args ...string) *screen {
	t.Helper()
	s := &screen{t: t, f: f, socket: filepath.Join(f.Dir, "tmux.sock")}
	cmd := f.Command(n, args...)
	line := "ended=0; " + quoted(cmd.Args) + " || ended=$?; echo it ended with $ended; read forever"
	script := filepath.Join(f.Dir, "sit.sh")
	if err := os.WriteFile(script, []byte(line), 0o700); err != nil {
		t.Fatal(err)
	}
	s.tmuxIn(cmd.Env, "-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "sh "+script)
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() })
	return s
}

// quoted makes a shell line of an argument list.
func quoted(args []string) string {
	var out []string
	for _, a := range args {
		out = append(out, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
	}
	return strings.Join(out, " ")
}

func (s *screen) tmux(args ...string) string { return s.tmuxIn(os.Environ(), args...) }

func (s *screen) tmuxIn(env []string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-S", s.socket}, args...)...)
	cmd.Env = env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("tmux %s: %v: %s", args, err, out.String())
	}
	return out.String()
}

// types types text and the enter key.
func (s *screen) types(text string) {
	s.t.Helper()
	s.tmux("send-keys", "-l", text)
	s.tmux("send-keys", "Enter")
}

// shows waits until a line of the screen is text.
func (s *screen) shows(text string) {
	s.t.Helper()
	s.until(text, func(line string) bool { return line == text })
}

func (s *screen) until(what string, holds func(line string) bool) {
	s.t.Helper()
	last := ""
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the screen:\n%s", last)
		}
	}()
	s.f.Until("the screen shows "+what, func() bool {
		last = s.tmux("capture-pane", "-p")
		for line := range strings.Lines(last) {
			if holds(strings.TrimRight(line, " \n")) {
				return true
			}
		}
		return false
	})
}

// TestShellInATerminal sits at a terminal and works on another host: sizes, a full screen editor, top, Ctrl-C, a hundred
// thousand lines, an agent that is killed meanwhile.
func TestShellInATerminal(t *testing.T) {
	f := New(t, 3)
	far := f.Nodes[2]
	s := sit(t, f, f.Nodes[0], "shell", far.Name, "--user", "root")
	s.types("PS1='far> '; cd " + f.Dir + "; stty size")
	s.shows("30 100")
	s.tmux("resize-window", "-x", "120", "-y", "40")
	s.types("stty size")
	s.shows("40 120")

	s.types("sh -c 'echo before; exec sleep 1000'")
	s.shows("before") // it has the terminal: what is typed earlier is nobody's
	s.tmux("send-keys", "C-c")
	s.types("echo code $?")
	s.shows("code 130")

	s.types("seq 100000 > lines; cat lines; echo all of it")
	s.shows("all of it")
	s.shows("100000")

	s.types("vi -u NONE poem")
	s.until("the editor", func(line string) bool { return strings.Contains(line, `"poem"`) })
	s.tmux("send-keys", "i", "roses", "Escape")
	s.types(":wq")
	s.shows("far>") // what is typed before would be the editor's
	s.types("cat poem; echo read")
	s.shows("read")
	s.shows("roses")

	s.types("top")
	s.until("top", func(line string) bool { return strings.Contains(line, "load average") })
	s.tmux("send-keys", "q")
	s.shows("far>")

	s.types("n=0; while [ $n -lt 40 ]; do n=$((n+1)); echo beat $n; sleep 0.1; done; echo over")
	s.shows("beat 5")
	far.Kill()
	far.Start()
	s.shows("over")
	for i := 33; i <= 40; i++ { // what is still on the screen has no gap
		s.shows(fmt.Sprint("beat ", i))
	}
	s.types("exit 5")
	s.shows("it ended with 5")
}

// TestExecTellsTheTruth: streams apart, codes, signals, standard input and its end, and sessions with every voter dead.
func TestExecTellsTheTruth(t *testing.T) {
	f := New(t, 5)
	near, far := f.Nodes[3], f.Nodes[4]
	r := f.Muster(near, "exec", far.Name, "--user", "root", "--", "echo out; echo err >&2; exit 7")
	if r.Stdout != "out\n" || r.Stderr != "err\n" || r.Code != 7 {
		t.Errorf("%+v", r)
	}
	if r := f.Muster(near, "exec", far.Name, "--user", "root", "--", "kill -TERM $$"); r.Code != 128+15 {
		t.Errorf("killed by SIGTERM: %+v", r)
	}
	all := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	if r := f.MusterWith(near, all, "exec", far.Name, "--user", "root", "--", "cat"); r.Stdout != all || r.Code != 0 {
		t.Errorf("%d bytes of %d came back, exit %d, %s", len(r.Stdout), len(all), r.Code, r.Stderr)
	}
	for _, c := range []struct{ args, says string }{
		{"exec nobody -- true", "no node \"nobody\""}, {"exec " + far.Name + " --user nobody-of-that-name -- true", "no user"},
	} {
		if r := f.Muster(near, strings.Fields(c.args)...); r.Code != 255 || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
	for _, n := range f.Nodes[:3] {
		n.Kill()
	}
	if r := f.Muster(near, "exec", far.Name, "--user", "root", "--", "echo alone"); r.Stdout != "alone\n" || r.Code != 0 {
		t.Errorf("with every voter dead: %+v", r)
	}
}

// TestSSHByProxy: ssh and rsync reach a node's own sshd, which listens on loopback alone.
func TestSSHByProxy(t *testing.T) {
	f := New(t, 3)
	dir := shortTemp(t)
	port := startSSHD(t, f, dir)
	proxy := "ProxyCommand " + quoted(f.Command(f.Nodes[0], "ssh-proxy", f.Nodes[2].Name, "--port", port).Args)
	config := fmt.Sprintf("Host n3\n%s\nUser root\nIdentityFile %s/client\nStrictHostKeyChecking no\nUserKnownHostsFile %s/known\nBatchMode yes\nLogLevel ERROR\n", proxy, dir, dir)
	if err := os.WriteFile(dir+"/ssh", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = f.Command(f.Nodes[0]).Env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		return string(out)
	}
	if out := run("ssh", "-F", dir+"/ssh", "n3", "echo by ssh"); out != "by ssh\n" {
		t.Errorf("%q", out)
	}
	from := filepath.Join(dir, "from")
	for i := range 200 {
		path := filepath.Join(from, fmt.Sprint(i%7), fmt.Sprint(i))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte{byte(i)}, i*100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("rsync", "-a", "-e", "ssh -F "+dir+"/ssh", from+"/", "n3:"+dir+"/to/")
	run("diff", "-r", from, dir+"/to")
}

// startSSHD starts an sshd on a port of loopback that lets the key client in, and returns the port.
func startSSHD(t *testing.T, f *Fleet, dir string) (port string) {
	t.Helper()
	for _, name := range []string{"host", "client"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	_, port, _ = net.SplitHostPort(FreeAddr(t))
	config := fmt.Sprintf("ListenAddress 127.0.0.1:%s\nHostKey %s/host\nAuthorizedKeysFile %s/client.pub\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n", port, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it gives up its rights
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(dir, "config"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	f.Until("sshd listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return port
}
