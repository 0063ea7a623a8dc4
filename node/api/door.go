package api

import (
	"net"
	"sync"
)

// door accepts connections, knows who opened each, and holds every account to its share: whoever may only ask for the
// status must not be able to take all the agent's descriptors.
type door struct {
	net.Listener
	mu   sync.Mutex
	open map[uint32]int
	all  int
}

func newDoor(l net.Listener) *door { return &door{Listener: l, open: map[uint32]int{}} }

// knownConn is a connection with its caller.
type knownConn struct {
	net.Conn
	caller caller
	close  func() error
}

// Close closes the connection and gives its share back, once.
func (c *knownConn) Close() error { return c.close() }

// Accept returns the next connection of a caller who is within their share; others are closed at once.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		unixConn, ok := conn.(*net.UnixConn)
		if !ok {
			conn.Close()
			continue
		}
		who, err := callerOf(unixConn)
		if err != nil || !d.take(who.uid) {
			conn.Close()
			continue
		}
		return &knownConn{Conn: conn, caller: who, close: sync.OnceValue(func() error {
			d.give(who.uid)
			return conn.Close()
		})}, nil
	}
}

func (d *door) take(uid uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if uid != 0 && (d.all >= maxConnections || d.open[uid] >= maxPerUser) {
		return false
	}
	d.open[uid]++
	d.all++
	return true
}

func (d *door) give(uid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.open[uid]--; d.open[uid] == 0 {
		delete(d.open, uid)
	}
}
