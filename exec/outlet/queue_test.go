package outlet

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// node is a queue's surroundings.
type node struct {
	dir, to string

	mu    sync.Mutex
	open  func(stream string) (string, error)
	opens int
	told  []string
	late  []string
}

func (n *node) config() Config {
	return Config{Dir: n.dir, Node: "web1", Log: slog.New(slog.DiscardHandler),
		Open: func(_ fleet.UUID, stream string) (io.ReadCloser, int64, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.opens++
			text, err := n.open(stream)
			if err != nil {
				return nil, 0, err
			}
			return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
		},
		Told: func(_ fleet.UUID, to string, err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if err != nil {
				to += ": " + err.Error()
			}
			n.told = append(n.told, to)
		},
		Delayed: func(_ fleet.UUID, to string, err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.late = append(n.late, to+": "+err.Error())
		}}
}

func (n *node) heard() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.told...)
}

func newNode(t *testing.T) *node {
	return &node{dir: filepath.Join(t.TempDir(), "copies"), to: t.TempDir(), open: func(stream string) (string, error) { return stream + " of it\n", nil }}
}

func (n *node) queue(t *testing.T) *Queue {
	t.Helper()
	q, err := OpenQueue(n.config())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// run runs a queue in the bubble; what it returns stops it.
func run(q *Queue) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); q.Run(ctx) }()
	return func() { cancel(); <-over }
}

func (n *node) copied(stream string) string {
	text, err := os.ReadFile(filepath.Join(n.to, command.String(), "web1", stream))
	if err != nil {
		return ""
	}
	return string(text)
}

func TestQueueCopiesWhatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		q := n.queue(t)
		defer run(q)()
		if err := q.Expect(command, n.to); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		if n.copied("stdout") != "" || len(q.Expected()) != 1 {
			t.Error("copied before the run ended")
		}
		q.Ready(fleet.UUID{1}) // nobody expects it
		q.Ready(command)
		q.Ready(command)
		synctest.Wait()
		if n.copied("stdout") != "stdout of it\n" || n.copied("stderr") != "stderr of it\n" {
			t.Errorf("got %q, %q", n.copied("stdout"), n.copied("stderr"))
		}
		if told := n.heard(); len(told) != 1 || told[0] != n.to {
			t.Errorf("told %q", told)
		}
		if q.Waiting() != 0 || len(n.queue(t).jobs) != 0 {
			t.Error("a copy that was made still waits")
		}
	})
}

func TestQueueSurvivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		before := n.queue(t)
		other := fleet.UUID{2}
		for _, c := range []fleet.UUID{command, other} {
			if err := before.Expect(c, n.to); err != nil {
				t.Fatal(err)
			}
		}
		before.Ready(command)
		os.WriteFile(filepath.Join(n.dir, "x.json.part"), nil, 0o600)

		after := n.queue(t)
		if e := after.Expected(); len(e) != 1 || e[0] != other {
			t.Errorf("expected: %v", e)
		}
		defer run(after)()
		synctest.Wait()
		if n.copied("stdout") == "" {
			t.Error("a copy was forgotten in a restart")
		}
		if err := after.Expect(other, "syslog"); err != nil { // changes nothing
			t.Error(err)
		}
		after.Ready(other)
		synctest.Wait()
		if told := n.heard(); len(told) != 2 || told[1] != n.to {
			t.Errorf("told %q", told)
		}
		if names, _ := os.ReadDir(n.dir); len(names) != 0 {
			t.Errorf("left: %v", names)
		}
	})
}

func TestQueueTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		os.Remove(n.to) // the share is not mounted
		q := n.queue(t)
		defer run(q)()
		q.Expect(command, n.to)
		q.Ready(command)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if tries := n.opens; tries < 10 || tries > 20 || len(n.heard()) != 0 {
			t.Errorf("opened %d times, told %v", tries, n.heard())
		}
		if len(n.late) != 1 || !strings.Contains(n.late[0], "not yet, it is tried again until 2000-01-08 00:00Z: there is no folder "+n.to) {
			t.Errorf("of the delay was told %q", n.late)
		}
		os.Mkdir(n.to, 0o700)
		time.Sleep(longestRetry)
		synctest.Wait()
		if n.copied("stderr") == "" {
			t.Error("not copied once the share was back")
		}
	})
}

func TestQueueGivesUpAfterAWeekAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.open = func(string) (string, error) { return "", errors.New("the disk is ill") }
		q := n.queue(t)
		defer run(q)()
		q.Expect(command, n.to+"/none?token=hunter2")
		q.Ready(command)
		time.Sleep(Patience - time.Hour)
		synctest.Wait()
		if len(n.heard()) != 0 {
			t.Errorf("given up early: %v", n.heard())
		}
		time.Sleep(2*time.Hour + longestRetry)
		synctest.Wait()
		told := n.heard()
		if len(told) != 1 || !strings.Contains(told[0], "given up: ") || strings.Count(told[0], "hunter2") != 1 { // the destination itself
			t.Errorf("told %q", told)
		}
		if n.opens > 400 || n.opens < 150 {
			t.Errorf("tried %d times in a week", n.opens)
		}
	})
}

func TestQueueGivesUpAtOnceWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.open = func(string) (string, error) { return "", fleet.Errorf(fleet.Expired, "the output is no longer kept") }
		q := n.queue(t)
		defer run(q)()
		q.Expect(command, n.to)
		q.Ready(command)
		synctest.Wait()
		if told := n.heard(); len(told) != 1 || !strings.Contains(told[0], "no longer kept") || n.opens != 1 {
			t.Errorf("told %q after %d openings", told, n.opens)
		}
	})
}

func TestASlowPlaceDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		held := make(chan struct{})
		cfg := n.config()
		inner := cfg.Open
		slow := fleet.UUID{9}
		cfg.Open = func(c fleet.UUID, stream string) (io.ReadCloser, int64, error) {
			if c == slow {
				<-held
			}
			return inner(c, stream)
		}
		q, err := OpenQueue(cfg)
		if err != nil {
			t.Fatal(err)
		}
		stop := run(q)
		q.Expect(slow, n.to)
		q.Ready(slow)
		synctest.Wait()
		q.Expect(command, n.to)
		q.Ready(command)
		synctest.Wait()
		if n.copied("stdout") == "" {
			t.Error("a slow copy held up another")
		}
		close(held)
		stop()
	})
}

func TestStoppingIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		held := make(chan struct{})
		n.open = func(string) (string, error) { <-held; return "", fleet.Errorf(fleet.NotFound, "gone") }
		q := n.queue(t)
		stop := run(q)
		q.Expect(command, n.to)
		q.Ready(command)
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(held) })
		stop()
		if len(n.heard()) != 0 || len(n.queue(t).jobs) != 1 {
			t.Errorf("told %v; a copy that was stopped must wait for the next start", n.heard())
		}
	})
}

func TestQueueIsBoundedAndSetsAsideWhatItCannotRead(t *testing.T) {
	n := newNode(t)
	q := n.queue(t)
	for i := range MaxWaiting {
		q.jobs[fleet.UUID{1, byte(i >> 8), byte(i)}] = &job{to: n.to, since: time.Now()}
	}
	if err := q.Expect(command, n.to); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("got %v", err)
	}
	if err := n.queue(t).Expect(command, "nowhere"); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("got %v", err)
	}
	bad := filepath.Join(n.dir, command.String()+".json")
	os.WriteFile(bad, []byte("{"), 0o600)
	if len(n.queue(t).jobs) != 0 {
		t.Error("read what is no job")
	}
	if _, err := os.Stat(bad + ".unreadable"); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(n.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestQueueForgetsRunsThatNeverEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		ended := fleet.UUID{3}
		q := n.queue(t)
		q.Expect(command, n.to)
		q.Expect(ended, n.to)
		q.Ready(ended)
		time.Sleep(Longest - time.Hour)
		if len(n.queue(t).jobs) != 2 {
			t.Error("forgotten early")
		}
		time.Sleep(2 * time.Hour)
		if jobs := n.queue(t).jobs; len(jobs) != 1 || jobs[ended] == nil {
			t.Errorf("left: %v", jobs)
		}
	})
}

func TestRetry(t *testing.T) {
	for tries, most := range map[int]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 5: 80 * time.Second, 11: time.Hour, 1000: time.Hour} {
		if low, high := retry(tries, 0), retry(tries, 1); low != most/2 || high != most {
			t.Errorf("after %d tries: %s to %s", tries, low, high)
		}
	}
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"format":1,"to":"syslog","ready":5}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if j, err := decodeJob(text); err == nil && Check(j.to) != nil {
			t.Errorf("%q goes to %q", text, j.to)
		}
	})
}
