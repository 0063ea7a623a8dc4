package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// unit says what a value counts, and how people read it.
type unit int

const (
	seconds        unit = iota
	octets              // bytes; shown as MB of 1,000,000
	octetsASecond       // bytes a second
	packetsASecond      //
	percent             // of one processor
	count               //
	aSecond             // of anything
	times               // another value
)

// figure is one number, with what it is held to.
type figure struct {
	key   string // in JSON, with its unit: true_wall_p50_seconds
	name  string // for people
	value float64
	unit  unit
	aim   float64 // the value should be at most this; 0: there is no aim
	least bool    // the value should be at least aim
	note  string  // what else is to be known to read the number right
}

// met reports whether the aim is met; without an aim nothing is missed.
func (f figure) met() bool {
	if f.least {
		return f.value >= f.aim
	}
	return f.aim == 0 || f.value <= f.aim
}

// aimed gives one of the figures an aim.
func aimed(figures []figure, key string, aim float64) []figure {
	figures[find(figures, key)].aim = aim
	return figures
}

// text returns a value of the unit as people read it.
func (u unit) text(v float64) string {
	switch u {
	case seconds:
		if v < 0 { // a difference
			return "-" + u.text(-v)
		}
		switch {
		case v < 0.001:
			return fmt.Sprintf("%.0f µs", v*1e6)
		case v < 0.01:
			return fmt.Sprintf("%.1f ms", v*1000)
		case v < 1:
			return fmt.Sprintf("%.0f ms", v*1000)
		case v < 10:
			return fmt.Sprintf("%.2f s", v)
		}
		return fmt.Sprintf("%.1f s", v)
	case octets:
		switch {
		case v < 1e5:
			return short(v) + " B"
		case v < 1e9:
			return fmt.Sprintf("%.1f MB", v/1e6)
		}
		return fmt.Sprintf("%.1f GB", v/1e9)
	case octetsASecond:
		return short(v) + " B/s"
	case packetsASecond:
		return short(v) + " /s"
	case percent:
		return fmt.Sprintf("%.2f %%", v)
	case count:
		return short(v)
	case aSecond:
		return short(v) + " /s"
	case times:
		return fmt.Sprintf("%.2f×", v)
	}
	return fmt.Sprint(v)
}

// short writes small numbers with one decimal and large ones with commas.
func short(v float64) string {
	if v < 100 {
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func inSeconds(durations []time.Duration) []float64 {
	out := make([]float64, 0, len(durations))
	for _, d := range durations {
		out = append(out, d.Seconds())
	}
	return out
}
