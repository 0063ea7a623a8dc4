package check

// How much more than at its first rest an agent may hold at its last. Connections come and go with what there is to say, and
// each takes some goroutines at either end, on several planes; so the bound grows with the fleet. A leak has none.
const (
	moreGoroutines = 32
	morePerPeer    = 12       // goroutines
	moreFDs        = 32       // there is one socket for all peers
	moreRSS        = 48 << 20 // bytes
)

// Levels finds agents that hold more at rest than they did at the first rest of the same life.
func Levels(h History) []Violation {
	v := violations{promise: PromiseLevel}
	type life struct {
		node string
		life int
	}
	first, last := map[life]Level{}, map[life]Level{}
	var order []life
	for _, l := range h.Levels {
		k := life{l.Node, l.Life}
		if _, seen := first[k]; !seen {
			first[k] = l
			order = append(order, k)
		}
		last[k] = l
	}
	peers := map[string]bool{}
	for _, k := range order {
		peers[k.node] = true
	}
	for _, k := range order {
		a, b := first[k], last[k]
		grew(&v, k.node, "goroutines", int64(a.Goroutines), int64(b.Goroutines), int64(moreGoroutines+morePerPeer*len(peers)))
		grew(&v, k.node, "open files", int64(a.FDs), int64(b.FDs), moreFDs)
		grew(&v, k.node, "bytes of memory", a.RSS, b.RSS, moreRSS)
	}
	return v.found
}

func grew(v *violations, node, what string, from, to, most int64) {
	if to > from+most {
		v.add([16]byte{}, node, "its agent holds %d %s at rest, and held %d; at most %d more are normal", to, what, from, most)
	}
}
