package config

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// off is how a bound is said not to be there, also where a preset has one.
const off = "off"

// Bounds of values, as far as one that is beyond them can only be a slip.
const (
	minSize = 16 << 20 // bytes: an agent does not live in less
	maxSize = 1 << 50
	maxMost = 1_000_000 // sessions or runs
	maxCPU  = 100_000   // percent: 1,000 processors
)

// Check reports why a key cannot have a value, or nil. The empty value is what holds where nobody says anything.
func (k Key) Check(text string) error {
	if text == "" || k.allows(text) {
		return nil
	}
	return fleet.Errorf(fleet.Invalid, "%s is %s, not %q", k.Name, k.Allowed(), shorten(text))
}

func (k Key) allows(text string) bool {
	switch k.Kind {
	case Word:
		return slices.Contains(k.Words, text)
	case Switch:
		return text == "true" || text == "false"
	case NodeName:
		return fleet.CheckName(text) == nil
	case Address:
		return isAddress(text)
	case Addresses:
		return !slices.ContainsFunc(split(text), func(one string) bool { return !isAddress(one) })
	case Listen:
		return isListen(text)
	case Size:
		_, ok := parseSize(text)
		return ok
	case Percent:
		_, ok := parsePercent(text)
		return ok
	case Count:
		_, ok := parseCount(text)
		return ok
	}
	return false
}

// Allowed says what a key may be, for people.
func (k Key) Allowed() string {
	switch k.Kind {
	case Word:
		last := len(k.Words) - 1
		return strings.Join(k.Words[:last], ", ") + " or " + k.Words[last]
	case Switch:
		return "true or false"
	case NodeName:
		return "a name of small letters, digits, dots and hyphens"
	case Address:
		return "IP:PORT"
	case Addresses:
		return "a list of IP:PORT"
	case Listen:
		return "IP:PORT, or PORT on loopback"
	case Size:
		return "a size of 16MiB at least such as 64MiB or 2GiB, or off"
	case Percent:
		return "a share of one processor such as 50%, or off"
	case Count:
		return "a number from 1, or off"
	}
	return ""
}

// isAddress takes an IP without a port too where the port has a default.
func isAddress(text string) bool {
	_, err := netip.ParseAddrPort(text)
	if err != nil {
		_, err = netip.ParseAddr(text)
	}
	return err == nil
}

// isListen takes a port of loopback too, as metrics.ParseAddress does.
func isListen(text string) bool {
	if place, err := netip.ParseAddrPort(text); err == nil {
		return place.Port() > 0
	}
	port, err := strconv.ParseUint(strings.TrimPrefix(text, ":"), 10, 16)
	return err == nil && port > 0
}

func split(text string) (out []string) {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			out = append(out, one)
		}
	}
	return out
}

// parseSize reads 64MiB, 2GiB; off is 0. Decimal units would be read by some as binary ones, and are refused.
func parseSize(text string) (int64, bool) {
	if text == off {
		return 0, true
	}
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		number, ok := strings.CutSuffix(text, unit)
		if !ok {
			continue
		}
		shift := 10 * (i + 1)
		n, err := strconv.ParseInt(number, 10, 64)
		return n << shift, err == nil && n > 0 && n <= maxSize>>shift && n<<shift >= minSize && number[0] != '+'
	}
	return 0, false
}

// parsePercent reads 50%; off is 0.
func parsePercent(text string) (int, bool) {
	if text == off {
		return 0, true
	}
	number, ok := strings.CutSuffix(text, "%")
	n, good := parseNumber(number, maxCPU)
	return n, ok && good
}

// parseCount reads 8; off is 0.
func parseCount(text string) (int, bool) {
	if text == off {
		return 0, true
	}
	return parseNumber(text, maxMost)
}

func parseNumber(text string, most int) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err == nil && n > 0 && int(n) <= most
}
