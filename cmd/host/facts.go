package host

import (
	"bufio"
	"os"
	"runtime"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Facts reads what the host says of itself.
func Facts(version string) fleet.Facts {
	f := fleet.Facts{OS: runtime.GOOS, Arch: runtime.GOARCH, Version: version}
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if readOSRelease(path, &f) {
			break
		}
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		f.BootID = strings.TrimSpace(string(id))
	}
	return f
}

func readOSRelease(path string, f *fleet.Facts) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "ID":
			f.OS = value
		case "VERSION_ID":
			f.OSVersion = value
		}
	}
	return true
}
