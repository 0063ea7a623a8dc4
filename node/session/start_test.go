package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec/account"
)

// Which program runs, and whether one can, is for the account to see, not for the agent: neither a file that only root may
// execute counts, nor does anybody learn by exit codes what lies in root's folders.
func TestProgramsAreTheAccounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may be somebody else")
	}
	t.Parallel()
	who, _, err := account.Resolve("1")
	if err != nil {
		t.Skip("there is no account with ID 1")
	}
	open1, closed1 := t.TempDir(), t.TempDir()
	for dir := open1; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Skip(err)
			}
		}
	}
	put := func(dir, name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho ran "+filepath.Base(dir)+"/"+name+"\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	private, secret := filepath.Join(open1, "private"), filepath.Join(closed1, "secret")
	for _, dir := range []string{private, secret} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(closed1, 0o700); err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(open1, "public")
	if err := os.Mkdir(public, 0o755); err != nil {
		t.Fatal(err)
	}
	put(private, "tool", 0o755)
	put(private, "only", 0o755)
	put(public, "tool", 0o755)
	roots := put(public, "roots", 0o700)
	h := open(t, Config{})
	for name, c := range map[string]struct {
		argv []string
		code int32
		out  string
		says string
	}{
		"passed over":                     {[]string{"tool", "x"}, 0, "ran public/tool\n", ""},
		"seen by root only":               {[]string{"only", "x"}, 126, "", "cannot run " + private + "/only"},
		"for root only":                   {[]string{roots, "x"}, 126, "", "cannot run"},
		"there is one in root's folder":   {[]string{private + "/only", "x"}, 126, "", "cannot run"},
		"there is none in root's folder":  {[]string{private + "/none", "x"}, 126, "", "cannot run"},
		"none, and a folder is closed":    {[]string{"nothing", "x"}, 126, "", "cannot run"}, // as execvp has it
		"an interpreter that is not here": {[]string{public + "/broken", "x"}, 127, "", "command not found"},
		"a folder":                        {[]string{public, "x"}, 126, "", "cannot run"},
		"below a file":                    {[]string{roots + "/x", "x"}, 127, "", "command not found"},
	} {
		o := program1(c.argv...)
		o.User, o.Env = who.Name, []string{"PATH=" + private + ":" + public}
		if name == "an interpreter that is not here" {
			if err := os.WriteFile(filepath.Join(public, "broken"), []byte("#!/no/such/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		p := h.attach(h.open(o), false)
		if exit := p.leaves(); exit.Code != c.code || p.out.String() != c.out || !strings.Contains(p.notices.String(), c.says) {
			t.Errorf("%s: %+v %q %q", name, exit, p.out, p.notices)
		}
	}
}

// What a program leaves running dies with its session, and somebody is told: what it had still to write would else be missed
// without a word.
func TestLeftRunningIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ line, says string }{
		"nothing":              {"echo done", ""},
		"one with the output":  {"(sleep 100; echo never) & echo done", "left running were ended with the session, and what they had"},
		"one without":          {"sleep 100 >/dev/null 2>&1 & echo done", "a process that was left running was ended"},
		"several":              {"sleep 100 & sleep 100 & echo done", "processes that were left running were ended"},
		"it ends in good time": {": & echo done", ""},
	} {
		h := open(t, Config{})
		p := h.attach(h.open(program1(c.line)), false)
		if exit := p.leaves(); exit.Code != 0 || exit.Why != "" || p.out.String() != "done\n" || (c.says == "") != (p.notices.String() == "") || !strings.Contains(p.notices.String(), c.says) {
			t.Errorf("%s: %+v %q %q", name, exit, p.out, p.notices)
		}
	}
}
