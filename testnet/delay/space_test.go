package delay

import (
	"os/exec"
	"syscall"
	"testing"
)

// TestSpacesEndNoThread: a process that is to die with its parent (Pdeathsig) dies with the thread that started it, and any
// thread may have.
func TestSpacesEndNoThread(t *testing.T) {
	ended := make(chan int, 100)
	for range 20 {
		child := exec.Command("sleep", "1000")
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = child.Wait()
			ended <- child.Process.Pid
		}()
		t.Cleanup(func() { _ = child.Process.Kill() })
		space(t)
	}
	select {
	case pid := <-ended:
		t.Errorf("the process %d has ended", pid)
	default:
	}
}
