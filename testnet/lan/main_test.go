package lan

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// role makes another process of the test binary: what makes a lan and dies, or a box.
const role = "LAN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		_ = flag.Set("test.parallel", "6") // they wait for each other's hosts far more than they compute; -parallel has the last word
		code := m.Run()
		_ = os.RemoveAll(binDir())
		os.Exit(code)
	case "box":
		if err := RunBox(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(make1(os.Getenv(role)))
	}
}

// make1 brings a lan up for a test that wants to see what happens to it afterwards: "stays NAME" or "dies NAME".
func make1(what string) int {
	how, name, _ := strings.Cut(what, " ")
	self, err := os.Executable()
	if err != nil {
		return 1
	}
	l, err := Up(context.Background(), Options{Name: name, Hosts: 2, Stays: how == "stays", Box: []string{"env", role + "=box", self}})
	if err == nil {
		err = l.Hosts()[0].Command(context.Background(), "sh", "-c", "sleep 1000000 > /dev/null 2>&1 & :").Run()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up")
	if how == "dies" {
		<-time.After(Patience) // it is killed before
	}
	return 0
}

// binDir is where this test process builds to.
func binDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("muster-lan-test-%d", os.Getpid()))
}

// built builds the agent once, for all tests, with a clock that can be set.
var built = sync.OnceValues(func() (string, error) {
	if err := os.MkdirAll(binDir(), 0o755); err != nil {
		return "", err
	}
	bin := filepath.Join(binDir(), "muster")
	return bin, Build(context.Background(), bin, "testclock")
})

func testBin(t *testing.T) string {
	t.Helper()
	needRoot(t)
	bin, err := built()
	must(t, err)
	return bin
}

// TestTheClockIsForTests looks into binaries: the one that ships must not even know the name of the variable.
func TestTheClockIsForTests(t *testing.T) {
	t.Parallel()
	shipped := filepath.Join(t.TempDir(), "muster")
	must(t, Build(t.Context(), shipped))
	for bin, want := range map[string]bool{shipped: false, testBin(t): true} {
		raw, err := os.ReadFile(bin)
		must(t, err)
		if bytes.Contains(raw, []byte("MUSTER_TEST_CLOCK")) != want {
			t.Errorf("%s: a clock that can be set: %v", filepath.Base(bin), !want)
		}
	}
}

// needRoot skips a test of namespaces where they cannot be made.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces with networks need root")
	}
}

// lanName names a lan of this process, so that test processes do not meet.
func lanName(what string) string { return fmt.Sprintf("t%d-%s", os.Getpid(), what) }

// up brings a lan up for one test.
func up(t *testing.T, o Options) *Lan {
	t.Helper()
	needRoot(t)
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, l.Down()) })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for something to come true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, Patience)
		}
		<-time.After(5 * nap)
	}
}
