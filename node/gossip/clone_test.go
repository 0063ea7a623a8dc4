package gossip

import (
	"sync"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// copied is a folder's word of what gossip was told, life after life, and what its host makes of what it hears.
type copied struct {
	mu      sync.Mutex
	told    uint64
	voice   node.Voice
	strange int
	signed  int
	yields  bool
}

func (c *copied) born() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.voice = node.NewVoice(c.told, true)
}

func (c *copied) config(cfg *Config) {
	cfg.Seq = func(least uint64) (uint64, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.told = c.voice.Next(time.Now(), least)
		c.voice.Said(c.told, true)
		c.signed++
		return c.told, nil
	}
	cfg.Echo = func(sequence uint64) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.voice.Strange(sequence) {
			c.strange++
		}
	}
	cfg.Yield = c.yields
}

func (c *copied) hears() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strange > 0
}

func (c *copied) says() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signed
}

// TestTwoOfOneKey: a host and a copy of its folder on another both hear of each other, and yield: the others see them as
// gone, and the dispute ends.
func TestTwoOfOneKey(t *testing.T) {
	bubble(t, func(t *testing.T, f *fabric) {
		hosts := form(t, f, 4)
		h := hosts[3]
		h.kill()
		mine := &copied{told: uint64(time.Now().UnixNano())}
		mine.born()
		h.start(t, mine.config)
		h.join(t, hosts[0])
		until(t, time.Minute, func() bool { return allSee(hosts, fleet.Online, hosts...) })
		time.Sleep(time.Minute)
		if mine.hears() {
			t.Fatal("a host is strange to itself")
		}

		twin := &host{f: f, n: 77, id: h.id, key: h.key, addr: addrOf(77)}
		f.set(func() { f.hosts[twin.addr] = twin })
		theirs := &copied{told: mine.told}
		theirs.born()
		twin.start(t, theirs.config)
		twin.join(t, hosts[0], hosts[1])
		took := until(t, 10*time.Second, func() bool { return mine.hears() && theirs.hears() }) // by exchanges alone: 20 s
		t.Logf("both heard after %v", took)

		for at, c := range map[*host]*copied{h: mine, twin: theirs} {
			at.kill()
			c.yields = true
			c.born()
			at.start(t, c.config)
			at.join(t, hosts[0], hosts[1])
		}
		until(t, time.Minute, func() bool { return allSee(hosts[:3], fleet.Left, h) })
		time.Sleep(time.Minute)
		before := mine.says() + theirs.says()
		time.Sleep(4 * time.Minute)
		if !allSee(hosts[:3], fleet.Left, h) || !allSee(hosts[:3], fleet.Online, hosts[:3]...) {
			t.Error("the others do not see them as gone")
		}
		if more := mine.says() + theirs.says() - before; more > 0 {
			t.Errorf("they went on to dispute: %d more tags", more)
		}
	})
}

// TestPutBackIsHeard: a folder that was put back from an older copy hears so at its start, also when memberlist has
// forgotten the host long since, and whether it was lost or had said goodbye; one that was only off hears nothing.
func TestPutBackIsHeard(t *testing.T) {
	for name, leaves := range map[string]bool{"lost": false, "stopped": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				hosts := form(t, f, 4)
				h := hosts[3]
				h.kill()
				now := &copied{told: uint64(time.Now().UnixNano())}
				life := func(c *copied) {
					t.Helper()
					time.Sleep(2 * time.Minute) // until memberlist has buried it
					c.born()
					h.start(t, c.config)
					h.join(t, hosts[0], hosts[1])
				}
				life(now)
				old := &copied{told: now.told}
				h.kill()
				now.yields = leaves
				life(now)
				time.Sleep(10 * time.Second)
				if now.hears() {
					t.Fatal("a host that was off for a while is strange to itself")
				}
				h.kill()
				life(old)
				until(t, 10*time.Second, old.hears)
			})
		})
	}
}
