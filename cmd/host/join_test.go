package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/node/transport"
)

func TestNobodySaysInOneLineWhatBecameOfEveryAddress(t *testing.T) {
	at := func(text string, err error) door { return door{addr: netip.MustParseAddrPort(text), err: err} }
	silent := fleet.Errorf(fleet.Unavailable, "no answer from 10.0.0.1:7980/udp")
	stranger := fleet.Errorf(fleet.Denied, "10.0.0.2:7980 belongs to %w", transport.ErrAnotherFleet)
	for _, c := range []struct {
		said []door
		kind fleet.Kind
		want []string
	}{
		{[]door{at("10.0.0.1:7980", silent)}, fleet.Unavailable, []string{"no answer from 10.0.0.1:7980"}},
		{[]door{at("10.0.0.2:7980", stranger), at("10.0.0.1:7980", silent)}, fleet.Unavailable, []string{"10.0.0.1:7980", "10.0.0.2:7980 belongs to another fleet"}},
		{[]door{at("10.0.0.2:7980", stranger)}, fleet.Denied, []string{"the join string is for another fleet"}},
	} {
		err := nobody(c.said)
		e, _ := errors.AsType[*fleet.Error](err)
		if e.Kind != c.kind || e.Hint == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, hint %q", e.Kind, err, e.Hint)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q says nothing of %q", err, want)
			}
		}
	}
}

func TestRefusedIsARefusal(t *testing.T) {
	for kind, want := range map[fleet.Kind]fleet.Kind{
		fleet.NotFound: fleet.Denied, fleet.Exhausted: fleet.Denied, fleet.Denied: fleet.Denied, fleet.Expired: fleet.Expired,
		fleet.Conflict: fleet.Conflict, fleet.Invalid: fleet.Invalid,
	} {
		err := refused(fleet.Errorf(kind, "no").Hinted("do"))
		e, ok := errors.AsType[*fleet.Error](err)
		if !ok || e.Kind != want || e.Error() != "no" || e.Hint != "do" {
			t.Errorf("%s becomes %v", kind, err)
		}
	}
	if refused(nil) != nil {
		t.Error("nothing became a refusal")
	}
}

// TestFoundLeavesNothing lets the founder's keys have no place.
func TestFoundLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, key := signerAndKey()
	_, root := signerAndKey()
	recovery, _ := signerAndKey()
	why := errors.New("no place")
	_, err := Found(NewHost{Dir: dir, Name: "n1", Bind: "127.0.0.1:7980"}, Founder{
		Fleet: "test", Operator: "me", Key: key, Root: root, Recovery: recovery.Public(),
		Keep: func(fleet.ID) error { return why },
	}, time.Now())
	if !errors.Is(err, why) {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Fatalf("the folder is there: %v", err)
	}
}

// TestJoinKeepsItsKeysWhereItMayHaveBeenCounted repeats a join that nobody has answered.
func TestJoinKeepsItsKeysWhereItMayHaveBeenCounted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	join := auth.JoinString{Seed: make([]byte, 32), Fleet: fleet.Sum([]byte("fleet"))}
	f, err := folder.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := NewHost{Dir: dir, Name: "n1"}
	first, err := newJoiner(f, n, join, Clock, slog.New(slog.DiscardHandler))
	if err != nil || first.begun {
		t.Fatalf("%v, begun %v", err, first.begun)
	}
	again, err := newJoiner(f, n, join, Clock, slog.New(slog.DiscardHandler))
	if err != nil || !again.begun || again.identity.ID() != first.identity.ID() {
		t.Fatalf("%v: the second try has other keys", err)
	}
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
}

func signerAndKey() (auth.Signer, ed25519.PrivateKey) {
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	return auth.NewSigner(key), key
}
