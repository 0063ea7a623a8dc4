package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of a lan.
const (
	MaxHosts = 200             // what one bridge and one address plan are good for
	Patience = 2 * time.Minute // for any one thing to come true; it bounds hangs and asserts nothing
	DiskSize = 128 << 20       // bytes of a host's data disk
	prefix   = "muster-lan"    // of all names that other programs can see
	subnet   = "10.77.0.0/16"  // of all hosts: host N has 10.77.0.N
	nap      = 10 * time.Millisecond
)

// Options of a lan.
type Options struct {
	Name  string   // of this lan, in what ps shows and in the name of its folder; "" picks a free one
	Bin   string   // the muster binary; "" : hosts without muster
	Dir   string   // where disks, files and logs of hosts lie; made and removed by the lan; "" picks one in the temporary folder
	Root  string   // a debootstrap root, which every host sees as its own; "" : the machine's own files, seen the same way
	Hosts int      // how many
	Stays bool     // the hosts outlive the process that makes them; Open finds them again
	Box   []string // argv of a process that runs RunBox, for Host.Slow of a lan that stays; nil: a goroutine does it
}

// Lan is hosts on a bridge.
type Lan struct {
	opts  Options
	hosts []*Host

	mu       sync.Mutex // of the fields below
	hub      *process   // holds the bridge's network namespace
	faults   faults
	enrolled int
	down     bool
	forks    chan func()   // run on one thread that lives as long as the lan: what it starts dies with that thread
	over     chan struct{} // closed by Down
}

// Up makes the bridge and the hosts n1 to nN, with addresses 10.77.0.N, and no agent yet. It needs root. On an error
// nothing is left.
func Up(ctx context.Context, o Options) (l *Lan, err error) {
	if l, err = prepare(o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Down())
			l = nil
		}
	}()
	if err := l.makeShared(); err != nil {
		return l, err
	}
	if err := l.makeHub(); err != nil {
		return l, err
	}
	names := l.hostsFile()
	if err := l.each(l.hosts, func(h *Host) (err error) {
		if err = ctx.Err(); err == nil {
			h.init, err = h.boot(names)
		}
		return err
	}); err != nil {
		return l, err
	}
	if err := l.plug(l.hosts...); err != nil {
		return l, err
	}
	return l, l.save()
}

// prepare checks the options and takes the lan's folder, which is how a name is taken.
func prepare(o Options) (*Lan, error) {
	if os.Geteuid() != 0 {
		return nil, needsRoot()
	}
	if o.Hosts < 1 || o.Hosts > MaxHosts {
		return nil, fleet.Errorf(fleet.Invalid, "%d hosts; a lan has 1 to %d", o.Hosts, MaxHosts)
	}
	if o.Name != "" && !validName.MatchString(o.Name) {
		return nil, fleet.Errorf(fleet.Invalid, "%q names no lan", o.Name).Hinted("up to 24 lower-case letters, digits and dashes")
	}
	for _, path := range []string{o.Bin, o.Root} {
		if _, err := os.Stat(path); path != "" && err != nil {
			return nil, fleet.Errorf(fleet.NotFound, "%w", err)
		}
	}
	if err := takeFolder(&o); err != nil {
		return nil, err
	}
	l := newLan(o)
	for n := 1; n <= o.Hosts; n++ {
		l.hosts = append(l.hosts, l.newHost(n))
	}
	return l, nil
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)

func newLan(o Options) *Lan {
	l := &Lan{opts: o, forks: make(chan func()), over: make(chan struct{}), faults: newFaults()}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for {
			select {
			case f := <-l.forks:
				f()
			case <-l.over:
				return
			}
		}
	}()
	return l
}

func (l *Lan) newHost(n int) *Host {
	return &Host{lan: l, number: n, name: fmt.Sprintf("n%d", n), addr: Addr(n)}
}

// takeFolder makes the lan's folder and picks what was left open.
func takeFolder(o *Options) error {
	if o.Dir == "" && o.Name != "" {
		o.Dir = FolderOf(o.Name)
	}
	if o.Dir != "" {
		var err error
		if o.Dir, err = filepath.Abs(o.Dir); err != nil {
			return err
		}
		if o.Name == "" {
			o.Name = fmt.Sprintf("p%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)
		}
		if err := os.Mkdir(o.Dir, 0o755); err != nil {
			return fleet.Errorf(fleet.Conflict, "a lan makes its folder: %w", err).Hinted("end the lan that has it, or choose another name or folder")
		}
		return nil
	}
	for n := 1; ; n++ {
		o.Name = fmt.Sprintf("p%d-%d", os.Getpid(), n)
		o.Dir = FolderOf(o.Name)
		if err := os.Mkdir(o.Dir, 0o755); err == nil || !errors.Is(err, os.ErrExist) {
			return err
		}
	}
}

// FolderOf returns the folder of a lan of that name, where none was given.
func FolderOf(name string) string { return filepath.Join(os.TempDir(), prefix+"-"+name) }

// Addr returns the address that host n starts with.
func Addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(n)}) }

// Name returns the lan's name.
func (l *Lan) Name() string { return l.opts.Name }

// Dir returns the lan's folder.
func (l *Lan) Dir() string { return l.opts.Dir }

// Hosts returns the hosts, n1 first.
func (l *Lan) Hosts() []*Host { return l.hosts }

// Host returns the host of that name, or nil.
func (l *Lan) Host(name string) *Host {
	for _, h := range l.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// others returns all hosts but these.
func (l *Lan) others(but []*Host) []*Host {
	not := map[*Host]bool{}
	for _, h := range but {
		not[h] = true
	}
	var out []*Host
	for _, h := range l.hosts {
		if !not[h] {
			out = append(out, h)
		}
	}
	return out
}

// each does something for several hosts at once, as many as there are processors and some more: most of it is waiting.
func (l *Lan) each(hosts []*Host, do func(*Host) error) error {
	errs := make([]error, len(hosts))
	slots := make(chan struct{}, 2*runtime.NumCPU())
	var group sync.WaitGroup
	for i, h := range hosts {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := do(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.name, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// makeShared makes the folders, and what all hosts see under /run/lan.
func (l *Lan) makeShared() error {
	for _, dir := range []string{"", "bin", "clock"} {
		if err := os.MkdirAll(filepath.Join(l.shared(), dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(l.opts.Dir, scriptName), []byte(hostScript), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"reboot", "shutdown"} {
		if err := os.WriteFile(filepath.Join(l.shared(), "bin", name), []byte(rebootScript), 0o755); err != nil {
			return err
		}
	}
	if err := l.makeDisks(); err != nil || l.opts.Bin == "" {
		return err
	}
	return copyFile(l.opts.Bin, filepath.Join(l.shared(), "bin", "muster"))
}

func (l *Lan) shared() string { return filepath.Join(l.opts.Dir, "shared") }
