package lan

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// container is a PID namespace in which the agent is the first process, with its data folder on a volume.
type container struct {
	unshare *exec.Cmd
	first   int // the agent's first process, as this machine counts
	data    string
	bin     string
}

func runContainer(t *testing.T, bin, data string) *container {
	t.Helper()
	c := &container{bin: bin, data: data}
	c.unshare = exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", bin, "agent", "--data-dir", data)
	c.unshare.Env = append(os.Environ(), "HOME="+filepath.Dir(data))
	log, err := os.Create(filepath.Join(t.TempDir(), "agent.log"))
	must(t, err)
	c.unshare.Stdout, c.unshare.Stderr = log, log
	must(t, c.unshare.Start())
	t.Cleanup(func() {
		_ = c.unshare.Process.Kill()
		_ = c.unshare.Wait()
		_ = log.Close()
	})
	eventually(t, "the agent answers", func() bool {
		_, code := c.muster("status")
		return code == 0
	})
	pids := childrenOf(c.unshare.Process.Pid)
	if len(pids) != 1 {
		t.Fatalf("unshare has the children %v", pids)
	}
	c.first = pids[0]
	return c
}

func (c *container) muster(args ...string) (string, int) {
	cmd := exec.Command(c.bin, append([]string{"--data-dir", c.data}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(c.data))
	out, _ := cmd.CombinedOutput() // its exit code says it
	return string(out), cmd.ProcessState.ExitCode()
}

// childrenOf lists the children of a process, ended ones included.
func childrenOf(pid int) (out []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is well-formed
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(text)) {
			var n int
			if _, err := fmt.Sscan(word, &n); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// TestContainer has the agent be the first process of a container without any init: who is left behind by a command is taken
// note of when it ends, SIGTERM stops the agent in order, and the next container goes on with the volume.
func TestContainer(t *testing.T) {
	t.Parallel()
	bin := testBin(t)
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	addr := conn.LocalAddr().String()
	must(t, conn.Close())
	c := &container{bin: bin, data: filepath.Join(dir, "data")}
	if out, code := c.muster("init", "--fleet", "box", "--operator", "ann", "--name", "box", "--bind", addr, "--recovery-file", filepath.Join(dir, "recovery")); code != 0 {
		t.Fatal(out)
	}
	c = runContainer(t, bin, c.data)
	for range 3 {
		if out, code := c.muster("run", "--all", "--", "setsid sleep 0.2 > /dev/null 2>&1 & :"); code != 0 {
			t.Fatal(out)
		}
	}
	if out, code := c.muster("run", "--all", "--", "sleep 1"); code != 0 { // they have ended by then
		t.Fatal(out)
	}
	eventually(t, "nobody who has ended is left", func() bool { return len(childrenOf(c.first)) == 1 })

	must(t, syscall.Kill(c.first, syscall.SIGTERM))
	if err := c.unshare.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	c = runContainer(t, bin, c.data)
	if out, code := c.muster("run", "--all", "--", "echo again"); code != 0 || !strings.Contains(out, "again") {
		t.Error(out)
	}
	agent := childrenOf(c.first)
	if len(agent) != 1 {
		t.Fatalf("the first process has the children %v", agent)
	}
	must(t, syscall.Kill(agent[0], syscall.SIGKILL))
	if err := c.unshare.Wait(); err == nil || c.unshare.ProcessState.ExitCode() != 128+9 {
		t.Errorf("an agent that is killed: %v", err)
	}
}
