package cast

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// disk is a File in memory that takes so many bytes and no more.
type disk struct {
	mu     sync.Mutex
	data   bytes.Buffer
	room   int // bytes that it still takes; negative: any number
	bad    error
	syncs  int
	hold   chan struct{} // while it is not nil, Sync says so there, and waits for it
	closed bool
}

func newDisk() *disk { return &disk{room: -1} }

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room < 0 || len(p) <= d.room {
		d.room = max(d.room-len(p), min(d.room, 0))
		return d.data.Write(p)
	}
	n, _ := d.data.Write(p[:d.room])
	d.room = 0
	return n, syscall.ENOSPC
}

func (d *disk) Sync() error {
	if d.hold != nil {
		d.hold <- struct{}{}
		<-d.hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	return d.bad
}

func (d *disk) Close() error {
	d.closed = true
	return nil
}

// give changes how much the disk takes from now on.
func (d *disk) give(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = room
}

// watch is a clock that is set by hand.
type watch struct{ now time.Time }

func (w *watch) read() time.Time { return w.now }

var began = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func header() Header {
	return Header{
		Session: fleet.UUID{1, 2, 3}, Node: fleet.Sum([]byte("node")), NodeName: "web1", Operator: "ann", By: fleet.Sum([]byte("ann")),
		User: "deploy", Kind: "shell", Reason: "INC-7", Terminal: "xterm-256color", Rows: 24, Cols: 80, Start: began,
	}
}

// begin makes a writer on a disk, its clock standing still.
func begin(t *testing.T, d *disk, h Header, o Options) (*Writer, *watch) {
	t.Helper()
	clock := &watch{began}
	o.Now = clock.read
	w, err := New(d, h, o)
	if err != nil {
		t.Fatal(err)
	}
	return w, clock
}

func end(t *testing.T, w *Writer) Sum {
	t.Helper()
	sum, err := w.Close(End{})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// auditor makes a key pair.
func auditor(t testing.TB) (public, private []byte) {
	t.Helper()
	kem, _, _ := suite()
	key, err := kem.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key.PublicKey().Bytes(), mustBytes(t, key)
}

func mustBytes(t testing.TB, key hpke.PrivateKey) []byte {
	t.Helper()
	b, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// holding returns a set of one key.
func holding(public, private []byte) Keys {
	return func(id fleet.ID) []byte {
		if id == fleet.Sum(public) {
			return private
		}
		return nil
	}
}

// readAll returns the events of a recording, whether it has its end, and the error that stopped it.
func readAll(data []byte, keys Keys) ([]Event, bool, error) {
	r, err := Open(bytes.NewReader(data), keys)
	if err != nil {
		return nil, false, err
	}
	var out []Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, r.Whole(), nil
		}
		if err != nil {
			return out, false, err
		}
		out = append(out, e)
	}
}

func mustRead(t testing.TB, data []byte, keys Keys) []Event {
	t.Helper()
	events, whole, err := readAll(data, keys)
	if err != nil || !whole {
		t.Fatalf("the recording reads with %v, whole %v", err, whole)
	}
	return events
}

// streams joins what each stream says.
func streams(events []Event) (out, errs, in string) {
	for _, e := range events {
		switch e := e.(type) {
		case Output:
			if e.OnError {
				errs += string(e.Data)
			} else {
				out += string(e.Data)
			}
		case Input:
			in += string(e.Data)
		case Resize, Remark:
		}
	}
	return out, errs, in
}

// remarks returns the texts of a kind.
func remarks(events []Event, m Mark) []string {
	var out []string
	for _, e := range events {
		if r, ok := e.(Remark); ok && r.Mark == m {
			out = append(out, r.Text)
		}
	}
	return out
}

// nowhere takes everything.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Sync() error                 { return nil }
func (nowhere) Close() error                { return nil }
