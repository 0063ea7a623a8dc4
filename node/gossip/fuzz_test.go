package gossip

import (
	"bytes"
	"crypto/ed25519"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/hostile"
)

// forgedState is a node's state in a push/pull, as memberlist has it.
type forgedState struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

func stateOf(id fleet.ID, incarnation uint32, raw []byte) forgedState {
	return forgedState{id.Text(), net.ParseIP(everywhere).To4(), everywherePort, meta(raw), incarnation, 0, []uint8{1, 5, 2, 2, 5, 4}}
}

// push is a whole push/pull as a peer sends it.
func push(join bool, nodes ...forgedState) []byte {
	out := encodeList(msgPushPull, stateHeader{Nodes: len(nodes), Join: join})
	for _, n := range nodes {
		raw, err := msgpack.Marshal(n)
		if err != nil {
			panic(err)
		}
		out = append(out, raw...)
	}
	return out
}

// served is a connection whose peer said all it had to say.
type served struct {
	net.Conn
	in *bytes.Reader
}

func (s served) Read(p []byte) (int, error) { return s.in.Read(p) }
func (s served) Close() error               { return nil }

// A push/pull is handed on as it came, as far as its header allows, or not at all.
func FuzzGuard(f *testing.F) {
	id, _ := testKey()
	f.Add(push(true, stateOf(id, 1, []byte("tag"))), true)
	f.Add(push(false, stateOf(id, 1, []byte("tag")), stateOf(id, 2, make([]byte, 400))), false)
	f.Add(append(push(true, stateOf(id, 1, nil)), make([]byte, 3000)...), true)
	f.Add(state(f, maxStateNodes+1, 0), true)
	f.Add(append([]byte{msgError, 0x81}, make([]byte, 2000)...), false)
	f.Fuzz(func(t *testing.T, data []byte, incoming bool) {
		got, err := io.ReadAll(guard(served{in: bytes.NewReader(data)}, incoming, func() {}))
		if !bytes.HasPrefix(data, got) {
			t.Fatalf("%q is handed on as %q", data, got)
		}
		if err != nil && len(got) > 0 || len(got) == 0 {
			return
		}
		most := maxErrorText
		if data[0] == msgPushPull {
			h, _, err := readHeader(data[1:])
			if err != nil || h.Nodes < 1 || h.Nodes > maxStateNodes || h.UserStateLen != 0 {
				t.Fatalf("%+v passes, %v", h, err)
			}
			most = headerRoom + h.Nodes*nodeStateSize
		} else if incoming || data[0] != msgError {
			t.Fatalf("a stream of type %d passes", data[0])
		}
		if len(got) > most {
			t.Fatalf("%d bytes pass; at most %d", len(got), most)
		}
	})
}

// Whatever an enrolled member sends: the members that a host sees are those whose own keys said so, where they said.
func FuzzMembers(f *testing.F) {
	network := newFabric()
	fleetID := fleet.Sum([]byte(fleetKey))
	friend, ghost := network.add(2), network.add(3)
	stranger := network.add(4)
	said := tag{seq: 5, addrs: nil}
	said.addrs = append(said.addrs, friend.addr)
	genuine := said.sign(fleetID, friend.key)
	f.Add(alive(friend.id, 1, genuine), push(true, stateOf(friend.id, 1, genuine)))
	f.Add(alive(ghost.id, 1, genuine), push(false, stateOf(ghost.id, 1, genuine)))
	f.Add(alive(stranger.id, 1, said.sign(fleetID, stranger.key)), push(true, stateOf(stranger.id, 1, said.sign(fleetID, stranger.key))))
	f.Add(encodeList(msgDead, forgedDead{1 << 20, friend.id.Text(), friend.id.Text()}), push(true, stateOf(friend.id, 1<<30, genuine), stateOf(ghost.id, 1, nil)))
	f.Add(joinCompound([][]byte{alive(friend.id, 1, genuine), encodeList(msgDead, forgedDead{1, friend.id.Text(), "x"})}), state(f, 3, 0))
	f.Add(lengthenForTest(network.add(1).id, friend.id), []byte{msgError, 0x80})
	f.Add([]byte{msgAlive, 0x81, 0xa4, 'M', 'e', 't', 'a', 0xc6, 0xff, 0xff, 0xff, 0xff}, []byte{})
	f.Fuzz(func(t *testing.T, packet, stream []byte) {
		bubble(t, func(t *testing.T, f *fabric) {
			me := f.add(1)
			for _, h := range []*host{friend, ghost} {
				f.trust[h.id] = h.key.Public().(ed25519.PublicKey)
			}
			me.start(t)
			me.g.Packet(friend.addr, packet, time.Now())
			near, far := net.Pipe()
			me.g.Stream(far, friend.id)
			go func() { _, _ = io.Copy(io.Discard, near) }()
			_ = near.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = near.Write(stream)
			_ = near.Close()
			time.Sleep(time.Second)
			for _, m := range me.g.Members() {
				if m.ID == me.id {
					continue
				}
				if m.ID != friend.id || m.Seq != said.seq || len(m.Addrs) != 1 || m.Addrs[0] != friend.addr {
					t.Errorf("%+v is a member", m)
				}
			}
		})
	})
}

// TestMemory: what members send costs what it weighs, in our hands and in memberlist's.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts every byte of thousands of inputs")
	}
	id, key := testKey()
	public, fleetID := key.Public().(ed25519.PublicKey), fleet.Sum([]byte("f"))
	raw := tag{seq: 1, addrs: nil}
	raw.addrs = append(raw.addrs, addrOf(1), addrOf(2))
	hidden := tag{seq: 1, via: []fleet.ID{fleet.Sum([]byte("a")), fleet.Sum([]byte("b"))}}
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 64}, func(in []byte) {
		_, _ = openTag(fleetID, public, in)
		_, _ = decodeTag(in)
	}, hostile.Join(hostile.Inputs(2*maxTag, raw.sign(fleetID, key), hidden.sign(fleetID, key)), hostile.Corpus(t, "FuzzTag")))
	hostile.Check(t, hostile.Bound{Base: 16 << 10, PerByte: 32}, func(in []byte) {
		if long, ok := lengthen(in, id, net.ParseIP(everywhere).To4()); ok {
			_, _ = admit(long)
		}
	}, hostile.Join(hostile.Inputs(1190, lengthenForTest(id, id), joinCompound([][]byte{{msgPing, 1}, {8, 1}})), hostile.Corpus(t, "FuzzPacket")))

	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 2)
		genuine := []byte(hosts[0].g.book.byName[hosts[1].id.Text()].raw)
		behind := func(kinds []byte, most int, samples ...[]byte) func(func(string, []byte) bool) {
			return func(yield func(string, []byte) bool) {
				for _, kind := range kinds {
					for name, in := range hostile.Some(3, hostile.Inputs(most-1, samples...)) {
						if !yield(name, append([]byte{kind}, in...)) {
							return
						}
					}
				}
			}
		}
		// Its decoder takes up to 256 KiB at a time for what bytes claim to be.
		hostile.Check(t, hostile.Bound{Base: 1 << 20, PerByte: 64}, func(in []byte) {
			hosts[0].g.Packet(hosts[1].addr, in, time.Now())
			synctest.Wait()
		}, hostile.Join(behind([]byte{msgPing, msgIndirect, msgAck, msgSuspect, msgAlive, msgDead, msgCompound, msgNack, msgCRC}, 1190,
			alive(hosts[1].id, 9, genuine)[1:], encodeList(msgDead, forgedDead{9, hosts[1].id.Text(), "x"})[1:]), hostile.Corpus(t, "FuzzPacket"), hostile.Corpus(t, "FuzzMembers")))

		// A push/pull may claim 20,000 members: memberlist makes 200 bytes of room for each.
		streams := func(yield func(string, []byte) bool) {
			whole := push(true, stateOf(hosts[1].id, 9, genuine))
			head := len(encodeList(msgPushPull, stateHeader{Nodes: 1, Join: true}))
			for name, in := range hostile.Some(5, hostile.Inputs(1<<15, whole[head:])) {
				for _, nodes := range []int{1, maxStateNodes} {
					if !yield(name, append(encodeList(msgPushPull, stateHeader{Nodes: nodes, Join: true}), in...)) {
						return
					}
				}
			}
		}
		hostile.Check(t, hostile.Bound{Base: 8 << 20, PerByte: 128}, func(in []byte) {
			near, far := net.Pipe()
			hosts[0].g.Stream(far, hosts[1].id)
			go func() { _, _ = io.Copy(io.Discard, near) }()
			go func() {
				_, _ = near.Write(in)
				_ = near.Close()
			}()
			synctest.Wait()
		}, hostile.Join(streams, hostile.Corpus(t, "FuzzGuard"), hostile.Corpus(t, "FuzzMembers")))
		until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, hosts...) })
	})
}
