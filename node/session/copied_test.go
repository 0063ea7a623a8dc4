package session

import (
	"crypto/hpke"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/cast"
)

// What is to be copied is known before anybody hears of the end, and after a restart.
func TestCopiesAreRemembered(t *testing.T) {
	t.Parallel()
	var h *house
	wanted := make(chan int, 1)
	h = open(t, Config{Wants: func(s node.SessionState) int {
		if s.Ended == 0 || s.Recording.Digest.IsZero() {
			t.Errorf("asked about %+v", s)
		}
		wanted <- 2
		return 2
	}})
	id := h.open(program1("echo hello"))
	h.attach(id, false).leaves()
	h.ended(id)
	<-wanted
	if got := h.Wanting(); !slices.Equal(got, []fleet.UUID{id}) || h.CopiesOf(id).Want != 2 {
		t.Fatalf("to be copied: %v", got)
	}
	server := fleet.Sum([]byte("server"))
	if err := h.PutCopies(id, node.RecordingCopies{Want: 2, At: []fleet.ID{server}}); err != nil {
		t.Fatal(err)
	}
	again := h.reopen()
	if got := again.CopiesOf(id); len(got.At) != 1 || got.At[0] != server || len(again.Wanting()) != 1 {
		t.Errorf("after a restart: %+v", got)
	}
	if err := again.PutCopies(id, node.RecordingCopies{Want: 2, At: []fleet.ID{server, server}}); err != nil || len(again.Wanting()) != 0 {
		t.Errorf("still to be copied: %v, %v", again.Wanting(), err)
	}
	if err := again.PutCopies(newID(), node.RecordingCopies{}); fleet.KindOf(err) != fleet.Unavailable {
		t.Errorf("copies of nothing: %v", err)
	}
}

// A supervisor that is killed leaves a recording that says what it is, so that it can be told from another, and be copied.
func TestRecordingOfADeadSupervisor(t *testing.T) {
	t.Parallel()
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, auditors := range [][][]byte{nil, {key.PublicKey().Bytes()}} {
		h := open(t, Config{})
		o := onTerminal("echo only-for-auditors; sleep 1000")
		o.Auditors = auditors
		id := h.open(o)
		p := h.attach(id, true)
		p.sees("only-for-auditors")
		if err := syscall.Kill(h.supervisor(id), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s := h.ended(id)
		data, err := os.ReadFile(h.folder(id).path(recordingName))
		if err != nil {
			t.Fatal(err)
		}
		sealed := auditors != nil
		if r := s.Recording; r.Digest != fleet.Sum(data) || r.Bytes != int64(len(data)) || r.Sealed != sealed {
			t.Errorf("%+v of %d bytes", r, len(data))
		}
		if strings.Contains(string(data), "only-for-auditors") == sealed {
			t.Errorf("it can be read by everybody: %v", sealed)
		}
		if _, err := cast.Open(strings.NewReader(string(data)), nil); sealed != (fleet.KindOf(err) == fleet.Denied) {
			t.Errorf("opened without a key: %v", err)
		}
		p.leave()
	}
}
