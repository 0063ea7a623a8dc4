package release

import (
	"fmt"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// damaged says that a release is not what its maker wrote.
func damaged(format string, args ...any) *fleet.Error {
	return fleet.Errorf(fleet.Invalid, "the release is damaged: %s", fmt.Sprintf(format, args...)).
		Hinted("copy it again from where it was made, and compare: sha256sum --check SHA256SUMS")
}

// Damaged says that a release's binary or one of its chunks is not what its maker wrote.
func Damaged(what string) error { return damaged("%s", what) }

// Full says that a disk has no room for a release. need and free are bytes; need 0: it came out while something was written.
func Full(dir string, need, free int64) error {
	text := fmt.Sprintf("the disk of %s is full", dir)
	if need > 0 {
		text = fmt.Sprintf("the disk of %s has %d MiB left, and a release takes %d MiB", dir, free>>20, (need+1<<20-1)>>20)
	}
	return fleet.Errorf(fleet.Exhausted, "%s: nothing was changed", text).Hinted("make room there (df -h %s), and repeat it", dir)
}

func joined(names []string) string { return strings.Join(names, ", ") }

// cut shortens what somebody else wrote, for a message.
func cut(text string) string { return strings.ToValidUTF8(text[:min(len(text), MaxVersion)], "") }

func compareText(a, b string) int { return strings.Compare(a, b) }

func digestOf(v any) fleet.ID {
	return fleet.Sum(slices.Concat([]byte("muster/release-id\x00"), wire.Marshal(v)))
}
