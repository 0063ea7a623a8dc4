package testnet

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// canary is a text that no program makes by itself, with the forms in which it may be found.
type canary struct {
	text  string
	forms map[string][]byte
}

func newCanary() canary {
	text := fmt.Sprintf("Canary%016x%016xYranac", rand.Uint64(), rand.Uint64())
	inHex := hex.EncodeToString([]byte(text))
	c := canary{text, map[string][]byte{"plain": []byte(text), "hex": []byte(inHex), "hex in capitals": []byte(strings.ToUpper(inHex))}}
	for shift := range 3 { // base64 of a longer text has it at one of three places within a group
		padded := append(make([]byte, shift), text...)
		inner := base64.StdEncoding.EncodeToString(padded[:len(padded)/3*3])[4:]
		c.forms[fmt.Sprintf("base64, shifted by %d", shift)] = []byte(inner)
	}
	return c
}

// find returns the form in which data has the text, or "".
func (c canary) find(data []byte) string {
	for name, form := range c.forms {
		if bytes.Contains(data, form) {
			return name
		}
	}
	return ""
}

// findIn looks through a stream in pieces that overlap.
func (c canary) findIn(r io.Reader) string {
	const overlap = 256
	buf := make([]byte, 1<<20)
	kept := 0
	for {
		n, err := r.Read(buf[kept:])
		if found := c.find(buf[:kept+n]); found != "" {
			return found
		}
		if err != nil {
			return ""
		}
		rest := min(overlap, kept+n)
		copy(buf, buf[kept+n-rest:kept+n])
		kept = rest
	}
}

// inFiles looks into every file below dir. It returns where the text was found, and into how many files it has looked.
func (c canary) inFiles(dir string) (found []string, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		files++
		if form := c.findIn(file); form != "" {
			found = append(found, path+": "+form)
		}
		return nil
	})
	return found, files, err
}

// inMemory looks through a process as a core dump of it would have it. It returns where the text was found, or "", and
// in how many bytes it has looked.
func (c canary) inMemory(t *testing.T, pid int) (found string, looked int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for line := range strings.Lines(string(maps)) {
		span, rest, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(span, "-")
		start, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		if err1 != nil || err2 != nil || !strings.HasPrefix(rest, "rw") { // kernel pages are above int64
			continue
		}
		section := &countingReader{r: io.NewSectionReader(memory, start, end-start)}
		form := c.findIn(section)
		looked += section.n
		if form != "" {
			return form + " at " + span, looked
		}
	}
	return "", looked
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// watcher is something that looks for the text until it is ended.
type watcher struct {
	what  string
	seen  atomic.Int64
	mu    sync.Mutex
	found []string // the first few
	stop  func()
	done  chan struct{}
}

func (w *watcher) tell(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.found) < 5 {
		w.found = append(w.found, text)
	}
}

// end ends the watch and returns what was found.
func (w *watcher) end(t *testing.T) []string {
	t.Helper()
	w.stop()
	<-w.done
	if w.seen.Load() == 0 {
		t.Errorf("nothing was seen of %s", w.what)
	}
	return w.found
}

// sniff looks into every packet of the loopback device. It is tried once with a packet that has the text.
func sniff(t *testing.T, c canary) *watcher {
	const everything = 0x0300 // ETH_P_ALL in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
	if err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil {
		err = errors.Join(
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: lo.Index}),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
		)
	}
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{what: "a packet", done: make(chan struct{})}
	var stopped atomic.Bool
	w.stop = func() { stopped.Store(true) }
	tried := make(chan struct{})
	go func() {
		defer close(w.done)
		defer unix.Close(fd)
		trial := true
		buf := make([]byte, 1<<17)
		for !stopped.Load() {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				continue
			}
			w.seen.Add(1)
			switch found := c.find(buf[:n]); {
			case found == "":
			case bytes.Contains(buf[:n], []byte("TRIAL "+c.text)):
				if trial {
					trial = false
					close(tried)
				}
			default:
				w.tell(found)
			}
		}
	}()
	conn, err := net.Dial("udp", FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for deadline := time.Now().Add(Patience); ; wait(10 * time.Millisecond) {
		_, _ = conn.Write([]byte("TRIAL " + c.text)) // nobody listens there
		select {
		case <-tried:
			return w
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the trial packet was not seen")
		}
	}
}

// readCommandLines looks at the command lines of all processes, again and again.
func readCommandLines(t *testing.T, c canary) *watcher {
	w := &watcher{what: "a command line", done: make(chan struct{})}
	stop := make(chan struct{})
	w.stop = func() { close(stop) }
	go func() {
		defer close(w.done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range processes {
				if data, err := os.ReadFile(path); err == nil && c.find(data) != "" {
					w.tell(strings.ReplaceAll(strings.ReplaceAll(string(data), "\x00", " "), c.text, "…"))
				}
			}
			w.seen.Add(1)
		}
	}()
	return w
}

// TestCanaryIsFound plants the text in each place that TestSecretsAreNowhereElse searches, and sees it found there and nowhere
// else: a search that finds nothing proves nothing.
func TestCanaryIsFound(t *testing.T) {
	t.Parallel()
	c, other := newCanary(), newCanary()
	t.Run("file", func(t *testing.T) {
		dir := t.TempDir()
		plant := func(name string, data []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		value := "before " + c.text + " behind"
		for name, text := range map[string]string{
			"log": value, "hex": hex.EncodeToString([]byte(value)), "capitals": fmt.Sprintf("%X", value),
			"base64-0": base64.StdEncoding.EncodeToString([]byte(value)), "base64-1": base64.URLEncoding.EncodeToString([]byte("x" + value)),
			"base64-2": base64.RawStdEncoding.EncodeToString([]byte("xx" + value)),
		} {
			plant(name, []byte(text))
		}
		for _, before := range []int{1<<20 - 20, 1<<20 - 256, 1 << 20, 2<<20 - 260} { // across the pieces that are read at a time
			plant(fmt.Sprintf("large-%d", before), append(make([]byte, before), value...))
		}
		found, files, err := c.inFiles(dir)
		if err != nil || files != 10 || len(found) != files {
			t.Errorf("of %d files the text was found in these: %q, %v", files, found, err)
		}
		if found, _, _ := other.inFiles(dir); len(found) > 0 {
			t.Errorf("what is not there was found: %q", found)
		}
	})
	t.Run("packet", func(t *testing.T) {
		hears, deaf := sniff(t, c), sniff(t, other)
		conn, err := net.Dial("udp", FreeAddr(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		awaitFind(t, hears, func() { _, _ = conn.Write([]byte("value: " + c.text)) }) // nobody listens there
		hears.end(t)
		if found := deaf.end(t); len(found) > 0 {
			t.Errorf("what is not there was found: %q", found)
		}
	})
	t.Run("command line", func(t *testing.T) {
		sees, blind := readCommandLines(t, c), readCommandLines(t, other)
		holding(t, "", "read x", c.text)
		awaitFind(t, sees, func() {})
		sees.end(t)
		if found := blind.end(t); len(found) > 0 {
			t.Errorf("what is not there was found: %q", found)
		}
	})
	t.Run("memory", func(t *testing.T) {
		pid := holding(t, c.text+"\n", "read secret; echo here; read x")
		if found, looked := c.inMemory(t, pid); found == "" {
			t.Errorf("the text is not found in %d bytes of memory of who has it", looked)
		}
		if found, looked := other.inMemory(t, pid); found != "" || looked == 0 {
			t.Errorf("in %d bytes of memory was found what is not there: %s", looked, found)
		}
	})
}

// holding starts a shell that lives until the test has ended. With input it is returned once the shell has said a line.
func holding(t *testing.T, input, script string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", script}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if input == "" {
		return cmd.Process.Pid
	}
	_, err = io.WriteString(in, input)
	if err == nil {
		_, err = out.Read(make([]byte, 16))
	}
	if err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// awaitFind plants again and again until the watcher has found something.
func awaitFind(t *testing.T, w *watcher, plant func()) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; wait(10 * time.Millisecond) {
		plant()
		w.mu.Lock()
		n := len(w.found)
		w.mu.Unlock()
		if n > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the text was planted in %s and not found", w.what)
		}
	}
}
