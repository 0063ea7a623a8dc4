package testnet

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestShop types the README's example of a web application with configuration and a rotating secret, on real agents, and
// is its customer meanwhile.
func TestShop(t *testing.T) {
	f := New(t, 3)
	for i, role := range []string{"web", "db"} {
		f.Must(f.Nodes[0], "node", "tag", f.Nodes[i+1].Name, "role="+role)
	}
	s := shop{f: f, dir: t.TempDir(), data: shortTemp(t), hosts: map[string]*Node{"ann": f.Nodes[0], "web1": f.Nodes[1]}}
	s.prepare(t)
	open, rotations := 0, 0
	for _, line := range exampleLines(t, "## Configuration and secrets") {
		s.typed(t, line)
		if s.running() {
			s.f.Until("the shop is open", func() bool { return s.visit() == "The shop is open\n" })
			open++
		}
		if strings.Contains(line, "rotate") {
			rotations++
		}
	}
	if open < 3 || rotations < 2 {
		t.Errorf("the shop was open %d times, after %d rotations", open, rotations)
	}
	f.Until("the password that the database has is the newest", func() bool {
		set, _ := os.ReadFile(filepath.Join(s.data, "password"))
		return len(set) == 32 && f.Must(f.Nodes[0], "param", "get", "/shop/db/password:current", "--decrypt") == string(set)+"\n"
	})
}

// exampleLines returns what is typed in the first block behind a heading of the README.
func exampleLines(t *testing.T, heading string) []string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+heading+"\n")
	_, rest, _ = strings.Cut(rest, "\n```text\n")
	block, _, found := strings.Cut(rest, "\n```\n")
	if !found {
		t.Fatalf("no example behind %q", heading)
	}
	return strings.Split(block, "\n")
}

type shop struct {
	f     *Fleet
	dir   string // where it is typed
	data  string // stands for /var/lib/shop
	hosts map[string]*Node
}

func (s *shop) prepare(t *testing.T) {
	t.Helper()
	build := exec.Command("go", "build", "-o", filepath.Join(s.dir, "shop"), "github.com/muster-fleet/muster/testnet/shop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"shop.conf.tmpl", "SetPassword.yaml"} {
		data, err := os.ReadFile(filepath.Join("shop", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// typed types one line where its prompt says. Behind # nobody has an operator's key.
func (s *shop) typed(t *testing.T, line string) {
	t.Helper()
	at := strings.IndexAny(line, "$#")
	n := s.hosts[line[:max(at, 0)]]
	if n == nil {
		t.Fatalf("nobody types %q", line)
	}
	text := strings.ReplaceAll(line[at+1:], "/var/lib/shop", s.data)
	text, behind := strings.CutSuffix(text, "&")
	cmd := exec.Command("sh", "-c", text)
	cmd.Dir = s.dir
	cmd.Env = []string{"HOME=" + s.dir, "PATH=" + filepath.Dir(s.f.bin) + ":" + os.Getenv("PATH"), "MUSTER_DATA_DIR=" + n.Dir}
	if line[at] == '$' {
		cmd.Env = append(cmd.Env, "MUSTER_IDENTITY="+filepath.Join(s.f.Dir, "op.key"))
	}
	if !behind {
		if out, err := cmd.CombinedOutput(); err != nil {
			s.f.logs()
			t.Fatalf("%s\n%v\n%s", line, err, out)
		}
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its group
		_ = cmd.Wait()
	})
	if strings.Contains(text, "./shop") {
		s.f.Until("the shop is there", s.running)
	}
}

func (s *shop) running() bool {
	_, err := os.Stat(filepath.Join(s.dir, "shop.pid"))
	return err == nil
}

func (s *shop) visit() string {
	addr, err := os.ReadFile(filepath.Join(s.dir, "shop.addr"))
	if err != nil {
		return err.Error()
	}
	answer, err := http.Get("http://" + string(addr) + "/")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return string(body)
}
