package slowlink

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Open makes a TUN device in a network namespace, given as a file like /proc/PID/ns/net. The device is gone when the file
// that Open returns is closed.
func Open(netns, name string) (file *os.File, err error) {
	err = Within(netns, func() error {
		file, err = makeTUN(name)
		return err
	})
	return file, err
}

// Within calls a function in a network namespace, or one that moves its thread to another. What the function opens stays there;
// goroutines that it starts do not. Its thread comes back and lives on, whoever it was before: processes that other goroutines
// started on it may have to die with it (Pdeathsig).
func Within(netns string, do func() error) error {
	out := make(chan error)
	go func() { // a namespace belongs to a thread
		runtime.LockOSThread()
		back, err := there(netns, do)
		if back {
			runtime.UnlockOSThread()
		} // else the thread has to end with this goroutine: it is in the wrong place
		out <- err
	}()
	return <-out
}

// there goes into the namespace and back; back says whether it has come back.
func there(netns string, do func() error) (back bool, err error) {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer here.Close()
	target, err := os.Open(netns)
	if err != nil {
		return true, err
	}
	defer target.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, fmt.Errorf("enter %s: %w", netns, err)
	}
	err = do()
	return unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil, err
}

// Pin ties the calling goroutine to one processor until it calls free: the kernel lets packets overtake each other that are
// sent from two.
func Pin() (free func(), err error) {
	runtime.LockOSThread()
	free = runtime.UnlockOSThread
	var now, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil {
		return free, err
	}
	for cpu := range len(now) * 64 { // a set is made of words of 64 bits
		if now.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return free, err
	}
	return func() {
		if unix.SchedSetaffinity(0, &now) == nil {
			runtime.UnlockOSThread()
		} // else the thread has to end with this goroutine
	}, nil
}

func makeTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil // the runtime waits for it without a thread
}
