package agent

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-fleet/muster/node/auth"
)

// goneConn knows whether its other end has hung up.
type goneConn struct {
	net.Conn
	gone *atomic.Bool
}

func (c goneConn) Gone() bool { return c.gone.Load() }

// Who pages through the output may take as long as he likes. But of a session that is over, nothing stays in the agent for
// somebody who takes nothing of it.
func TestWhoTakesNothingOfADeadSessionIsLetGo(t *testing.T) {
	inLobby(t, func(t *testing.T, l *lobby) {
		s, id := l.open(auth.SessionExec)
		go func() { _, _ = s.Write([]byte("never read")) }()
		time.Sleep(24 * time.Hour)
		if s.ctx.Err() != nil {
			t.Fatal("a slow reader is cut off while the session lives")
		}
		s.talk(t, "", "NEVER")
		if err := l.shell.Kill(id, "enough"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(stuckWait / 2)
		s.talk(t, "", " R") // still takes something
		time.Sleep(stuckWait * 3 / 2)
		synctest.Wait()
		if s.ctx.Err() == nil {
			time.Sleep(stuckWait)
			synctest.Wait()
		}
		if s.ctx.Err() == nil {
			t.Fatal("the way to a dead session is held for somebody who takes nothing")
		}
	})
}
