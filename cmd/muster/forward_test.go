package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

// desk is a command line in this process, in a town whose nodes take sessions.
type desk struct {
	t    *testing.T
	town *town
	app  *app
	ctrl chan os.Signal // Ctrl-C
	out  *io.PipeReader
	errs *io.PipeReader
	code chan int
}

func newDesk(t *testing.T, stdin io.Reader) *desk {
	t.Helper()
	w, err := newTown(2)
	if err != nil {
		t.Fatal(err)
	}
	w.openDoors(t)
	dir := t.TempDir()
	w.open(t, dir, dir)
	d := &desk{t: t, town: w, ctrl: make(chan os.Signal, 1), code: make(chan int, 1)}
	var out, errs *io.PipeWriter
	d.out, out = io.Pipe()
	d.errs, errs = io.Pipe()
	d.app = &app{
		stdin: stdin, stdout: out, stderr: errs, euid: os.Geteuid(),
		getenv:     func(name string) string { return map[string]string{"HOME": dir, "MUSTER_DATA_DIR": dir}[name] },
		interrupts: func() (<-chan os.Signal, func()) { return d.ctrl, func() {} },
	}
	return d
}

func (d *desk) types(args ...string) {
	go func() {
		d.code <- runApp(d.t.Context(), d.app, args)
		d.app.stdout.(io.Closer).Close()
		d.app.stderr.(io.Closer).Close()
	}()
}

func (d *desk) door() *door {
	d.town.mu.Lock()
	defer d.town.mu.Unlock()
	return d.town.doors[d.town.byName("web01").ID]
}

// lines tells what is written, line by line.
func lines(r io.Reader) <-chan string {
	out := make(chan string, 100)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(r); s.Scan(); {
			out <- s.Text()
		}
	}()
	return out
}

// A tunnel carries, tells of ports that refuse, outlives an agent that forgets it, and ends when it is killed there.
func TestForward(t *testing.T) {
	t.Parallel()
	to := answering(t)
	d := newDesk(t, strings.NewReader(""))
	d.types("-o", "json", "forward", "web01", "0:"+to, "0:127.0.0.1:1")
	errs := lines(d.errs)
	var begins [2]struct{ Local, To, Node string }
	dec := json.NewDecoder(d.out)
	for i := range begins {
		if err := dec.Decode(&begins[i]); err != nil {
			t.Fatal(err, <-errs)
		}
	}
	if begins[0].To != to || begins[0].Node != "web01" || begins[1].To != "127.0.0.1:1" {
		t.Errorf("%+v", begins)
	}
	through := func(local, text string) (string, error) {
		l, err := net.ResolveTCPAddr("tcp", local)
		if err != nil {
			return "", err
		}
		return askThrough(l, text)
	}
	if got, err := through(begins[0].Local, "hello"); got != "HELLO" {
		t.Error(got, err)
	}
	if got, err := through(begins[1].Local, "hello"); err == nil {
		t.Errorf("a port that refuses answers %q", got)
	}
	if said := <-errs; !strings.Contains(said, "web01: 127.0.0.1:1 does not take the connection") {
		t.Error(said)
	}
	d.door().forget()
	if got, err := through(begins[0].Local, "again"); got != "AGAIN" {
		t.Error(got, err)
	}
	d.door().killTunnels("ended by bob")
	if said := <-errs; !strings.Contains(said, "has ended: ended by bob") {
		t.Error(said)
	}
	if code := <-d.code; code != exitOurs {
		t.Errorf("exit %d", code)
	}
	if _, err := through(begins[0].Local, "more"); err == nil {
		t.Error("it listens after its end")
	}
}

// Ctrl-C ends a tunnel, as the node hears.
func TestForwardEndsItsSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, strings.NewReader(""))
	d.types("forward", "web01", "0:127.0.0.1:1")
	if said := <-lines(d.errs); !strings.Contains(said, "→ 127.0.0.1:1 by web01") {
		t.Error(said)
	}
	d.ctrl <- os.Interrupt
	if code := <-d.code; code != 0 {
		t.Errorf("exit %d", code)
	}
	for _, s := range d.door().states() {
		if s.Ended == 0 {
			t.Error("the session goes on")
		}
	}
}

// ssh-proxy carries its streams, and ends when the node's side does.
func TestSSHProxy(t *testing.T) {
	t.Parallel()
	to := answering(t)
	_, port, _ := net.SplitHostPort(to)
	d := newDesk(t, strings.NewReader("ssh-2.0"))
	d.types("ssh-proxy", "web01", "--port", port)
	errs := lines(d.errs)
	if got, err := io.ReadAll(d.out); string(got) != "SSH-2.0" || err != nil {
		t.Errorf("%q %v; %s", got, err, <-errs)
	}
	if code := <-d.code; code != 0 {
		t.Errorf("exit %d", code)
	}
}

// What breaks off is no end.
func TestCarryStreamsBroken(t *testing.T) {
	t.Parallel()
	far := brokenHalf{err: fleet.Errorf(fleet.Unavailable, "lost")}
	if err := carryStreams(strings.NewReader("x"), io.Discard, far); err != far.err {
		t.Error(err)
	}
}

type brokenHalf struct{ err error }

func (b brokenHalf) Read([]byte) (int, error)    { return 0, b.err }
func (b brokenHalf) Write(p []byte) (int, error) { return len(p), nil }
func (b brokenHalf) Close() error                { return nil }
func (b brokenHalf) CloseWrite() error           { return nil }
