package host

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/muster-fleet/muster/node/auth"
)

// Clock reads the host's two clocks: the wall's, and the time since boot, suspended time included.
func Clock() auth.Instant {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // there since Linux 2.6.39
	}
	return auth.Instant{Wall: time.Now(), Boot: time.Duration(boot.Nano())}
}
