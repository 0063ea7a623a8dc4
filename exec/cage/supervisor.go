package cage

import (
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/muster-fleet/muster/node/fleet/wire"
)

// The descriptors that a supervisor is given, from 3 on.
const (
	OrderFD = 3 + iota
	EndFD
	ListenerFD
	MoreFD // what else Start is given
)

// Given is what a supervisor gets open besides its order. Close leaves nothing open of what there is of it.
type Given struct {
	End      *os.File // locked
	Listener *os.File
	Errors   *os.File
}

// Close closes what is open.
func (g *Given) Close() {
	for _, f := range []*os.File{g.End, g.Listener, g.Errors} {
		if f != nil {
			f.Close()
		}
	}
}

// Start starts a supervisor in dir: in a session of its own, with an empty environment, and nothing in its arguments but argv.
func (g *Given) Start(argv []string, dir string, order any, more ...*os.File) (*os.Process, error) {
	memory, err := MemoryFile("order", wire.Marshal(order))
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	return os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir:   dir,
		Env:   []string{"GOTRACEBACK=single", "GOMAXPROCS=2"},
		Files: slices.Concat([]*os.File{null, null, g.Errors, memory, g.End, g.Listener}, more),
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// ReadOrder takes the order in the supervisor, at most so many bytes of it.
func ReadOrder(most int64, order any) error {
	f := os.NewFile(OrderFD, "order")
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil {
		err = wire.Unmarshal(data, order)
	}
	if err != nil {
		return fmt.Errorf("the order cannot be read: %w", err)
	}
	return nil
}
