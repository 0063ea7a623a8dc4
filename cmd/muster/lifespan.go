package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/node/fleet"
)

// lifespan is a duration as a flag takes it: what Go writes (90m, 1h30m), and days (30d).
type lifespan time.Duration

// String writes it as it is read.
func (l lifespan) String() string {
	d := time.Duration(l)
	if d > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Set reads it.
func (l *lifespan) Set(text string) error {
	d, err := parseLifespan(text)
	*l = lifespan(d)
	return err
}

// Type names it in help.
func (l lifespan) Type() string { return "duration" }

const day = 24 * time.Hour

func parseLifespan(text string) (time.Duration, error) {
	if days, rest, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		var more time.Duration
		if err == nil && rest != "" {
			more, err = time.ParseDuration(rest)
		}
		if err != nil || more < 0 {
			return 0, notADuration(text)
		}
		return time.Duration(n)*day + more, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, notADuration(text)
	}
	return d, nil
}

func notADuration(text string) error {
	return fleet.Errorf(fleet.Invalid, "%q is no duration: 90s, 10m, 1h30m, 30d", text)
}
