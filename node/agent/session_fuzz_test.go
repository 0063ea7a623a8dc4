package agent

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// edited returns a body with bytes changed: each pair of edits adds to one of them.
func edited(body, edits []byte) []byte {
	body = append([]byte(nil), body...)
	for ; len(edits) > 1 && len(body) > 0; edits = edits[2:] {
		body[int(edits[0])*len(body)/256] += edits[1]
	}
	return body
}

// rightBody is a frame's body as it should be, but for edits to what is signed.
func (l *lobby) rightBody(by auth.Signer, kind byte, variant uint8, shell, tunnel fleet.UUID, edits []byte) []byte {
	id := tunnel
	if variant&1 == 1 {
		id = shell
	}
	sign := func(purpose auth.Purpose, body any) []byte {
		return l.signed(by, purpose, msgpack.RawMessage(edited(wire.Marshal(body), edits)))
	}
	header := l.Header(node.ReadLife)
	switch kind {
	case node.SessionOpen:
		s := l.asks(auth.SessionKinds[int(variant)%len(auth.SessionKinds)])
		if s.Kind == auth.SessionForward && variant&8 != 0 {
			s.Listen = []string{"127.0.0.1:8081", "0.0.0.0:80"}
		}
		return sign(auth.ForSession, s)
	case node.SessionAttach:
		return edited(node.EncodeSession(node.SessionAttaching{ID: id, Have: uint64(variant)}), edits)
	case node.SessionDial:
		return edited(node.EncodeSession(node.SessionDialling{ID: id, To: "10.0.0.5:5432"}), edits)
	case node.SessionAccept:
		return edited(node.EncodeSession(node.SessionAccepting{ID: id, N: uint16(variant >> 6)}), edits)
	case node.SessionKill:
		header.Mode = auth.Direct
		return sign(auth.ForSessionKill, auth.SessionKill{Header: header, Node: l.self, Session: id, Reason: "fuzz"})
	}
	what := []node.ReadWhat{node.ReadSessions, node.ReadSession, node.ReadRecording, node.ReadWatch, node.ReadCopies, node.ReadCopy, node.ReadSessionDocument, node.ReadOutput}
	return sign(auth.ForRequest, node.Read{Header: header, What: what[int(variant)%len(what)], Arg: id, Node: l.self})
}

// Whatever an operator's end says on the plane of sessions, before and behind the first frame: it gets what policy gives its key
// and no more, others keep what they have, and when it is gone nothing of it is left but sessions that end by themselves.
func FuzzServeSession(f *testing.F) {
	for kind := byte(0); kind < 12; kind++ {
		for variant := range uint8(16) {
			f.Add(variant%3, kind, variant, []byte(nil), []byte{}, []byte("hello"))
		}
	}
	f.Add(uint8(1), node.SessionOpen, uint8(10), []byte{200, 1, 128, 7}, []byte{}, []byte{})
	f.Add(uint8(0), node.SessionOpen, uint8(0), []byte{}, []byte{0x92, 0xc0}, []byte{})
	f.Add(uint8(2), node.SessionDial, uint8(64), []byte{}, []byte{0x92, 0xdd, 0xff, 0xff, 0xff, 0xff}, []byte{})
	f.Fuzz(func(t *testing.T, who, kind, variant uint8, edits, raw, more []byte) {
		inLobby(t, func(t *testing.T, l *lobby) {
			_, shell := l.open(auth.SessionShell)
			_, opened, err := l.listens(l.Operator, "127.0.0.1:8080")
			if err != nil {
				t.Fatal(err)
			}
			by := []auth.Signer{l.Operator, l.bob, l.Fleet.Nodes[0].Signer}[who%3]
			body := raw
			if len(raw) == 0 {
				body = l.rightBody(by, kind, variant, shell, opened.ID, edits)
			}
			answered, text := l.fuzzes(by.ID(), kind, body, more)
			if answered != 0 && answered != 0xff && answered != kind {
				t.Fatalf("a frame of kind %d is answered by one of kind %d", kind, answered)
			}
			for _, s := range l.Sessions() {
				mine := s.ID == shell || s.ID == opened.ID
				switch {
				case mine && who%3 != 0 && s.Ended != 0:
					t.Fatalf("somebody else's session was ended: %s", text)
				case !mine && s.By != by.ID(), !mine && who%3 == 1 && s.Kind != auth.SessionShell, !mine && who%3 == 2:
					t.Fatalf("opened without a right: %+v", s)
				}
			}
			if ports := len(l.far.ports); who%3 != 0 && ports != 1 || ports > 3 {
				t.Fatalf("the host listens at %d places", ports)
			}
			if who%3 != 0 && len(l.far.asked) > 0 {
				t.Fatalf("connected to %q", l.far.asked)
			}
			l.closeAll()
			time.Sleep(node.TerminalGrace + time.Second)
			synctest.Wait()
			if len(l.far.ports) > 0 {
				t.Fatal("it listens for nobody")
			}
			l.sessions.mu.Lock()
			defer l.sessions.mu.Unlock()
			if len(l.sessions.opening) > 0 || l.sessions.tunnels.dials != 0 {
				t.Fatalf("%d sessions are being opened, %d connections are counted", len(l.sessions.opening), l.sessions.tunnels.dials)
			}
		})
	})
}

// fuzzes says one frame and more as somebody, and hears what comes for a moment.
func (l *lobby) fuzzes(by fleet.ID, kind byte, body, more []byte) (answered byte, text string) {
	near, far := newWire(by)
	l.all = append(l.all, near)
	go l.ServeSession(far)
	go func() {
		if near.WriteFrame(kind, body) == nil {
			_, _ = near.Write(more)
		}
	}()
	head := make(chan [5]byte, 1)
	go func() {
		var b [5]byte
		if _, err := io.ReadFull(near, b[:]); err == nil {
			head <- b
		}
		_, _ = io.Copy(io.Discard, near)
	}()
	client := l.far.connects("127.0.0.1:8080")
	if client != nil {
		go func() { _, _ = client.Write([]byte("in")) }()
	}
	synctest.Wait()
	time.Sleep(catchUpWait + firstFrameWait + time.Second)
	select {
	case b := <-head:
		answered = b[0]
	default:
	}
	return answered, string(more)
}
