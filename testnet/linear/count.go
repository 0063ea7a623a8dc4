package main

import "fmt"

// counts says how much was done in a history.
type counts struct {
	gets, stale, taken, refused, unknown, lost int
	faults                                     int
}

func (c *counts) add(o counts) {
	c.gets += o.gets
	c.stale += o.stale
	c.taken += o.taken
	c.refused += o.refused
	c.unknown += o.unknown
	c.lost += o.lost
	c.faults += o.faults
}

func (c counts) String() string {
	return fmt.Sprintf("%d reads, %d reads with an age, %d changes taken, %d refused, %d of unknown end, %d reads unanswered, %d faults",
		c.gets, c.stale, c.taken, c.refused, c.unknown, c.lost, c.faults)
}

// What a history has at least, else it proves nothing.
const (
	leastGets  = 60
	leastTaken = 40
)

// idle says why a history proves nothing; empty: it does.
func (c counts) idle() string {
	switch {
	case c.gets < leastGets:
		return fmt.Sprintf("%d reads were answered; below %d a history proves nothing", c.gets, leastGets)
	case c.taken < leastTaken:
		return fmt.Sprintf("%d changes were taken; below %d a history proves nothing", c.taken, leastTaken)
	case c.faults == 0:
		return "nothing went wrong in it"
	}
	return ""
}
