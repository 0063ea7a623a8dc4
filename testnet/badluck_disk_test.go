package testnet

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// mounted mounts a small disk at dir.
func mounted(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skip("cannot mount a small disk: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func resize(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, options); err != nil {
		t.Fatal(err)
	}
}

func readOnly(t *testing.T, dir string, yes bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if yes {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, ""); err != nil {
		t.Fatal(err)
	}
}

// fill takes what is left of a disk; the file that it returns gives it back when it is removed.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func unfill(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestBadDisk lets disks refuse: full and read-only ones, at init, at join, at the agent's start and while it runs, of a
// fleet's only server and of a plain node.
func TestBadDisk(t *testing.T) {
	t.Parallel()
	bin, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	f := &Fleet{t: t, bin: bin, Dir: shortTemp(t), Voter: 1}
	t.Cleanup(f.end)
	server, plain := f.add(), f.add()
	disk := filepath.Join(f.Dir, "disk")
	server.Dir = filepath.Join(disk, "n1")
	mounted(t, disk, "size=64k,mode=755")
	init := []string{"init", "--fleet", "test", "--operator", "tester", "--name", "n1", "--bind", server.Addr}

	ballast := fill(t, disk)
	f.Muster(server, init...).complains(t, 1, "no space left", server.Dir, "df -h")
	absent(t, server.Dir)
	absent(t, filepath.Join(f.Dir, "op.key"))
	unfill(t, ballast)
	readOnly(t, disk, true)
	f.Muster(server, init...).complains(t, 5, "read-only", server.Dir)
	readOnly(t, disk, false)
	f.asNobody(t, filepath.Join(disk, "n2"), "init", "--name", "n1", "--identity", filepath.Join(f.Dir, "nobody.key")).
		complains(t, 3, "permission denied", filepath.Join(disk, "n2"))
	absent(t, server.Dir)

	f.Must(server, init...)
	f.asNobody(t, server.Dir, "agent").complains(t, 3, "permission denied", server.Dir)
	f.Muster(server, "agent").complains(t, 1, "no room for the ledger", "MiB")
	readOnly(t, disk, true)
	f.Muster(server, "agent").complains(t, 5, "read-only", server.Dir)
	readOnly(t, disk, false)
	resize(t, disk, "size=20m")
	server.Start()
	f.Must(server, "run", "--all", "--", "true")

	joinOnBadDisk(t, f, plain)
	t.Run("a plain node's disk is full", func(t *testing.T) { f.t = t; fullPlain(t, f, server, plain) })
	t.Run("the only server's disk is full", func(t *testing.T) { f.t = t; fullServer(t, f, server, disk) })
	f.t = t
}

// joinOnBadDisk lets a disk refuse before anything is counted, and then when the enrolment was counted already.
func joinOnBadDisk(t *testing.T, f *Fleet, n *Node) {
	disk := filepath.Join(f.Dir, "disk2")
	n.Dir = filepath.Join(disk, "n2")
	mounted(t, disk, "size=16k,mode=755")
	token := f.Token("--server", "no")
	join := []string{"join", token, "--name", n.Name, "--bind", n.Addr}
	ballast := fill(t, disk)
	f.Muster(n, join...).complains(t, 1, "no space left", n.Dir)
	absent(t, n.Dir)
	unfill(t, ballast)
	readOnly(t, disk, true)
	f.Muster(n, join...).complains(t, 5, "read-only", n.Dir)
	readOnly(t, disk, false)
	absent(t, n.Dir)
	if used := f.used(); used != 0 {
		t.Fatalf("%d uses were counted", used)
	}
	f.Muster(n, join...).complains(t, 1, "has enrolled this host", "no space left", "nothing is counted twice")
	if used := f.used(); used != 1 {
		t.Fatalf("%d uses were counted", used)
	}
	f.Muster(n, "agent").complains(t, 1, "holds no host")
	resize(t, disk, "size=20m")
	f.Must(n, join...)
	if used := f.used(); used != 1 {
		t.Fatalf("%d uses were counted", used)
	}
	n.Start()
	f.Settled()
}

func (f *Fleet) used() int {
	f.t.Helper()
	var tokens []struct{ Used int }
	f.JSON(&tokens, f.Nodes[0], "token", "list")
	return tokens[0].Used
}

// fullPlain fills a plain node's disk: it refuses commands and says why, loses nothing of the record, and goes on when
// there is room.
func fullPlain(t *testing.T, f *Fleet, server, plain *Node) {
	ran := filepath.Join(f.Dir, "plain.ran")
	ballast := fill(t, filepath.Dir(plain.Dir))
	id := f.send(server, "--target", plain.Name, "--", "echo full >> "+ran)
	f.awaitFate(server, id, plain.Name, "Failed", "no room on the disk")
	for _, tag := range []string{"a=1", "b=2"} {
		f.Must(server, "node", "tag", plain.Name, tag) // acts that the disk does not take
	}
	f.Until("the node has the acts all the same", func() bool {
		return strings.Contains(f.Muster(plain, "node", "show", plain.Name).Stdout, "b=2")
	})
	if !plain.Running() {
		t.Fatal("the agent did not survive")
	}
	unfill(t, ballast)
	f.Must(server, "node", "tag", plain.Name, "c=3")
	f.Must(server, "run", "--target", "tag.c=3", "--", "echo room >> "+ran)
	if got := lines(t, ran); len(got) != 1 || got[0] != "room" {
		t.Fatalf("ran %v", got)
	}
	plain.Kill()
	plain.Start() // from what is on disk: a hole in the record would show
	f.Settled()
	f.Must(server, "run", "--target", "tag.c=3", "--", "true")
	f.Until("the records are equal", func() bool { return f.recordOf(server).Head == f.recordOf(plain).Head })
}

// fullServer fills the disk of the fleet's only voter: what cannot be kept is refused, not promised.
func fullServer(t *testing.T, f *Fleet, server *Node, disk string) {
	ran := filepath.Join(f.Dir, "server.ran")
	ballast := fill(t, disk)
	r := f.Muster(server, "run", "--target", server.Name, "--", "echo full >> "+ran)
	if r.Code != 1 || !strings.Contains(r.Stderr, "no room on the disk") { // what the store has at hand still takes the command
		t.Fatalf("exit %d: %s", r.Code, r.Stderr)
	}
	input := strings.Repeat("x", 40<<10)
	f.Until("writes are refused", func() bool {
		r = f.MusterWith(server, input, "run", "--async", "--stdin", "--target", server.Name, "--", "echo full >> "+ran)
		return r.Code != 0
	})
	r.complains(t, 5, "muster")
	if got := lines(t, ran); len(got) != 0 || !server.Running() {
		t.Fatalf("ran %v, running %v", got, server.Running())
	}
	if r := f.Muster(server, "status"); r.Code != 0 || !strings.Contains(r.Stderr, "has 0 KiB left") {
		t.Fatalf("status: %+v", r)
	}
	unfill(t, ballast)
	f.Until("there is room, and the fleet works again", func() bool {
		return f.Muster(server, "run", "--target", server.Name, "--", "echo room >> "+ran).Code == 0
	})
	server.Kill()
	server.Start()
	f.Settled()
	f.Must(server, "run", "--all", "--", "true")
	if slices.Contains(lines(t, ran), "full") {
		t.Fatal("a command ran after it was said to have failed or not to be taken")
	}
}
