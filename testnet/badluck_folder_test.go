package testnet

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func badFolders(t *testing.T, w *badLuck) {
	good, other := w.Token(), w.foreign.Token()
	free := FreeAddr(t)
	if err := os.WriteFile(filepath.Join(w.Dir, "afile"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(w.Dir, "home")
	err := os.Mkdir(home, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(home, "thesis"), []byte("text"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	key := func(name string) string { return filepath.Join(w.Dir, name+".new.key") }
	for _, c := range []struct {
		what, dir string
		args      []string
		code      int
		words     []string
	}{
		{"init where a host is", w.victim.Dir, []string{"init", "--identity", key("a"), "--name", "x"}, 3, []string{"holds a host's identity already", w.victim.Dir}},
		{"join where a host is", w.victim.Dir, []string{"join", good, "--name", "x", "--bind", free}, 3, []string{"holds a host's identity already"}},
		{"join where a host of another fleet is", w.victim.Dir, []string{"agent", "--join", other}, 3, []string{"another fleet"}},
		{"an agent runs here", w.victim.Dir, []string{"agent"}, 3, []string{"an agent answers at"}},
		{"an agent runs here, on another socket", w.victim.Dir, []string{"agent", "--socket", filepath.Join(w.Dir, "b.sock")}, 3, []string{"another agent runs in " + w.victim.Dir}},
		{"no folder", filepath.Join(w.Dir, "nothing"), []string{"agent"}, 1, []string{"holds no host", "muster join"}},
		{"a file: init", filepath.Join(w.Dir, "afile"), []string{"init", "--identity", key("b"), "--name", "x"}, 2, []string{"afile"}},
		{"a file: join", filepath.Join(w.Dir, "afile"), []string{"join", good, "--name", "x", "--bind", free}, 2, []string{"afile"}},
		{"below a file: init", filepath.Join(w.Dir, "afile", "below"), []string{"init", "--identity", key("c"), "--name", "x"}, 2, []string{"afile"}},
		{"somebody's folder: init", home, []string{"init", "--identity", key("d"), "--name", "x"}, 3, []string{home, "other things"}},
		{"somebody's folder: join", home, []string{"join", good, "--name", "x", "--bind", free}, 3, []string{home, "other things"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var changed []string
			for range 3 { // the agent that runs in the victim's folder may have written something meanwhile
				before := digest(c.dir)
				w.Muster(&Node{fleet: w.Fleet, Dir: c.dir}, c.args...).complains(t, c.code, c.words...)
				if changed = changes(c.dir, before); len(changed) == 0 {
					return
				}
			}
			t.Fatalf("changed: %v", changed)
		})
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		absent(t, key(name))
		absent(t, filepath.Join(w.Dir, name+".new.root.key"))
	}
	// init takes its folder back when the keys have no place.
	fresh := w.stranger("fresh")
	w.Muster(fresh, "init", "--identity", filepath.Join(w.Dir, "afile", "op.key"), "--name", "x").complains(t, 2, "afile")
	absent(t, fresh.Dir)
	w.Muster(fresh, "init", "--identity", key("e"), "--name", "x", "--recovery-file", filepath.Join(w.Dir, "afile")).complains(t, 3, "afile")
	absent(t, fresh.Dir)
	absent(t, key("e"))
	absent(t, filepath.Join(w.Dir, "e.new.root.key"))
}

// digest sums up each of a folder's small files, which say what a host is: names, modes and content.
func digest(dir string) map[string]string {
	sums := map[string]string{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 1<<20 || strings.HasPrefix(path, filepath.Join(dir, "reports")) ||
			strings.HasPrefix(path, filepath.Join(dir, "decisions")) {
			return nil
		}
		sums[path] = info.Mode().String()
		if info.Mode().IsRegular() && d.Name() != "floor" && d.Name() != "peers" { // a running agent's clockwork
			data, _ := os.ReadFile(path)
			sums[path] += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		return nil
	})
	return sums
}

// changes names what is new, other or gone in a folder since.
func changes(dir string, before map[string]string) (paths []string) {
	now := digest(dir)
	for path := range now {
		if _, was := before[path]; !was {
			paths = append(paths, "new "+path)
		}
	}
	for path, was := range before {
		if now[path] != was {
			paths = append(paths, path)
		}
	}
	return paths
}

// damage is a way to spoil a file.
type damage struct {
	what string
	do   func(data []byte) []byte
}

func cut(part, of int) damage {
	return damage{"cut", func(data []byte) []byte { return data[:len(data)*part/of] }}
}

func flip(at int) damage {
	return damage{"one bit", func(data []byte) []byte {
		data[at%len(data)] ^= 0x10
		return data
	}}
}

// spoiled damages a file, holds that the agent then does not start, names the file and changes nothing, and mends it.
func (f *Fleet) spoiled(t *testing.T, n *Node, name string, d damage, words ...string) {
	t.Helper()
	path := filepath.Join(n.Dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := d.do(append([]byte(nil), data...))
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	before := digest(n.Dir)
	r := f.Muster(n, "agent")
	if r.Code <= 0 { // below: it ran until patience was over
		t.Fatalf("%s, %s: the agent starts\n%s", name, d.what, r.Stderr)
	}
	r.complains(t, r.Code, append(words, n.Dir)...)
	now, err := os.ReadFile(path)
	if err != nil || string(now) != string(bad) {
		t.Fatalf("%s, %s: it was changed: %v", name, d.what, err)
	}
	if changed := changes(n.Dir, before); len(changed) != 0 {
		t.Fatalf("%s, %s: changed: %v", name, d.what, changed)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func damagedFiles(t *testing.T, w *badLuck) {
	w.Must(w.one, "run", "--target", w.victim.Name, "--", "true") // so that its ledger says something
	w.victim.Stop()
	for _, name := range []string{"identity", "host", "record", "floor", "gossip-keys"} {
		for _, d := range []damage{cut(0, 1), cut(1, 2), flip(70)} {
			w.spoiled(t, w.victim, name, d, filepath.Join(w.victim.Dir, name))
		}
	}
	for _, d := range []damage{cut(0, 1), cut(1, 2), flip(20), flip(4096 + 20)} {
		w.spoiled(t, w.victim, "ledger", d, filepath.Join(w.victim.Dir, "ledger"), "nothing was changed")
	}

	w.Muster(w.victim, "agent", "--bind", w.one.Addr).complains(t, 5, "address already in use", w.one.Addr)

	fresh := w.stranger("founder")
	w.Must(fresh, "init", "--identity", filepath.Join(w.Dir, "founder.key"), "--name", "x", "--bind", fresh.Addr)
	for _, d := range []damage{cut(0, 1), cut(1, 2), flip(70)} {
		w.spoiled(t, fresh, "founding", d, filepath.Join(fresh.Dir, "founding"), "muster init")
	}

	// Two files of different fleets.
	mine := filepath.Join(w.victim.Dir, "identity")
	data, err := os.ReadFile(mine)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(fresh.Dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(mine, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Muster(w.victim, "agent").complains(t, 3, "another fleet", w.victim.Dir)
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	w.Muster(w.victim, "agent").complains(t, 1, "identity is missing", "new join string")
	w.Muster(w.victim, "join", w.Token(), "--name", "x", "--bind", w.victim.Addr).complains(t, 3, "was a host's folder")
	if err := os.WriteFile(mine, data, 0o600); err != nil {
		t.Fatal(err)
	}

	// Where the members are is a hint.
	if err := os.WriteFile(filepath.Join(w.victim.Dir, "peers"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.victim.Start()
	w.Settled()
}

// recordComesBack moves a plain node's record and gossip keys away, and a sole voter's record.
func recordComesBack(t *testing.T, w *badLuck) {
	w.victim.Stop()
	for _, name := range []string{"record", "gossip-keys"} {
		path := filepath.Join(w.victim.Dir, name)
		if err := os.Rename(path, filepath.Join(w.Dir, "away."+name)); err != nil {
			t.Fatal(err)
		}
	}
	w.victim.Start()
	w.Settled()
	w.Until("the record is whole again", func() bool { return w.recordOf(w.victim).Head == w.recordOf(w.one).Head })
	w.Must(w.one, "run", "--target", w.victim.Name, "--", "true")

	alone := w.foreign.Nodes[0]
	want := w.foreign.recordOf(alone).Head
	alone.Stop()
	if err := os.Remove(filepath.Join(alone.Dir, "record")); err != nil {
		t.Fatal(err)
	}
	alone.Start()
	w.foreign.Until("the record is whole again", func() bool { return w.foreign.recordOf(alone).Head == want })
	w.foreign.Must(alone, "run", "--all", "--", "true")
}

func damagedReplica(t *testing.T, w *badLuck) {
	alone := w.foreign.Nodes[0]
	alone.Stop()
	for _, name := range []string{"raft/identity", "raft/replica/raft.db"} {
		for _, d := range []damage{cut(0, 1), cut(1, 3)} {
			w.foreign.spoiled(t, alone, name, d, "raft")
		}
	}
	w.foreign.spoiled(t, alone, "raft/mark", cut(0, 1), "raft")
	w.foreign.spoiled(t, alone, "raft/identity", flip(40), "raft/identity")
	w.foreign.spoiled(t, alone, "raft/replica/raft.db", damage{"every page", func(data []byte) []byte {
		for at := 100; at < len(data); at += 512 {
			data[at] ^= 0x10
		}
		return data
	}}, "raft")
	alone.Start()
	w.foreign.Must(alone, "run", "--all", "--", "true") // nothing was lost

	// Others hold what this one has lost: it comes back as another incarnation.
	voter := w.Nodes[2]
	voter.Kill()
	path := filepath.Join(voter.Dir, "raft/replica/raft.db")
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, data[:len(data)/3], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	promoted := w.promotions(voter)
	voter.Start()
	w.Until("its new incarnation votes", func() bool { return w.promotions(voter) > promoted })
	if kept, _ := filepath.Glob(filepath.Join(voter.Dir, "raft", "damaged-*")); len(kept) != 1 {
		t.Fatalf("what was damaged is not kept: %v", kept)
	}
	if said := w.Muster(voter, "status").Stderr; !strings.Contains(said, "raft.db") {
		t.Fatalf("status does not tell of it: %q", said)
	}
	w.Must(voter, "run", "--target", voter.Name, "--", "true")
}

// promotions counts how often leaders made a replica of that node a voter, by their logs.
func (f *Fleet) promotions(n *Node) int {
	f.t.Helper()
	status, err := f.Nodes[0].client().Nodes(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	count := 0
	for _, member := range status {
		for _, leader := range f.Nodes {
			if log, err := os.ReadFile(leader.log()); err == nil && member.Name == n.Name {
				count += strings.Count(string(log), "promote to voter "+member.ID.String())
			}
		}
	}
	return count
}

// asNobody runs a command line as an account without rights.
func (f *Fleet) asNobody(t *testing.T, dir string, args ...string) Result {
	t.Helper()
	if err := os.Chmod(filepath.Dir(f.bin), 0o711); err != nil {
		t.Fatal(err)
	}
	cmd := f.Command(&Node{fleet: f, Dir: dir}, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH")}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}
