package session

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/exec/account"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// A full disk ends a session whose recording is durable, and is told where it is not.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a small disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	h := open(t, Config{Dir: dir})
	fill := program1("i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo a line of thirty bytes or so $i; done; echo last")
	p := h.attach(h.open(fill), false)
	if exit := p.leaves(); exit.Code != 0 || !strings.HasSuffix(p.out.String(), "last\n") || !strings.Contains(p.notices.String(), "recording of this session fails") {
		t.Fatalf("%+v %q", exit, p.notices)
	}
	fill = program1("exit 0")
	if err := h.Sessions.Open(t.Context(), fill); fleet.KindOf(err) != fleet.Exhausted {
		t.Fatalf("a session was opened without room for its end: %v", err)
	}
	for _, s := range h.List() {
		os.Remove(h.folder(s.ID).path(recordingName))
	}
	fill = program1("while :; do echo a line of thirty bytes or so; done")
	fill.Record = node.RecordDurable
	id := h.open(fill)
	p = h.attach(id, false)
	if exit := p.leaves(); !strings.Contains(exit.Why, "its recording, which is to be durable, cannot be written") {
		t.Fatalf("%+v", exit)
	}
	if s := h.ended(id); !strings.Contains(s.Why, "durable") {
		t.Fatalf("%+v", s)
	}
	if shown, kept := int64(len(p.out.String())), h.recording(id); int64(len(kept)) < shown {
		t.Fatalf("%d bytes were shown, and %d are on the disk", shown, len(kept))
	}
}

func TestAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may be somebody else")
	}
	t.Parallel()
	who, _, err := account.Resolve("1")
	if err != nil {
		t.Skip("there is no account with ID 1")
	}
	h := open(t, Config{})
	o := onTerminal(`id -u; id -g; stat -c %u "$(tty)"; echo "home=$HOME"; umask; cat /proc/self/status | grep -c "^CapEff:.*[1-9a-f]"; ls -l /proc/self/fd | wc -l; ulimit -c`)
	o.User = who.Name
	p := h.attach(h.open(o), true)
	p.leaves()
	lines := strings.Split(strings.ReplaceAll(p.out.String(), "\r", ""), "\n")
	if len(lines) < 7 || lines[0] != strconv.Itoa(who.UID) || lines[1] != strconv.Itoa(who.GID) || lines[2] != lines[0] ||
		lines[3] != "home="+who.Home || lines[4] != "0022" || lines[5] != "0" || lines[6] != "5" {
		t.Fatalf("%q", lines)
	}
	o = program1("cat /dev/stdin > /dev/stdout; echo apart > /dev/stderr")
	o.User = who.Name
	q := h.attach(h.open(o), false)
	q.types("by name")
	q.stdin.Close()
	if exit := q.leaves(); exit.Code != 0 || q.out.String() != "by name" || q.errs.String() != "apart\n" {
		t.Fatalf("%+v %q %q", exit, q.out, q.errs)
	}
	o = order1(4) // what copies files is this binary, as that account
	o.User, o.Record = who.Name, node.RecordNone
	q = h.attach(h.open(o), false)
	q.types("carried")
	q.stdin.Close()
	if exit := q.leaves(); exit.Code != 0 || q.out.String() != "carried" {
		t.Fatalf("%+v %q %q", exit, q.out, q.errs)
	}
}
