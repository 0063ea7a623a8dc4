package transport

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/testnet/fabric"
)

// Packets count where they are genuine and where they are not, and connections by what they are for.
func TestStats(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := newNetwork(t, fabric.Options{Latency: time.Millisecond, Duplicate: 1})
		book := newBook()
		a, b := w.node(1, book), w.node(2, book)
		if s := b.Stats(); s.Peers != 0 || s.Opened != 0 || s.Genuine+s.Strange+s.Sealed != 0 {
			t.Fatalf("at the beginning: %+v", s)
		}
		a.SetKeys(testKeys(1))
		b.SetKeys(testKeys(1))
		for range 3 {
			if err := a.SendPacket(addrOf(2), KindBell, []byte("bell")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := a.Stats(); s.Sealed != 3 {
			t.Errorf("%d packets sent", s.Sealed)
		}
		if s := b.Stats(); s.Genuine != 3 || s.Strange != 3 { // the network brought each twice
			t.Errorf("%d genuine packets, %d strange ones", s.Genuine, s.Strange)
		}
		stream, err := a.Open(t.Context(), b.ID(), Peer)
		if err != nil {
			t.Fatal(err)
		}
		if s := a.Stats(); s.Peers != 1 || s.Opened != 1 || s.Connections[Peer] != 1 || s.HalfOpen != 0 {
			t.Errorf("with a connection: %+v", s)
		}
		stream.Close()
		_ = b.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		if s := a.Stats(); s.Peers != 0 || s.Connections[Peer] != 0 || s.Opened != 1 {
			t.Errorf("after its end: %+v", s)
		}
	})
}
