package check

// Replicas finds servers that had come to the same act with another state, and servers that are behind at rest.
func Replicas(h History) []Violation {
	v := violations{promise: PromiseReplicas}
	first := map[uint64]Replica{}
	told := map[uint64]bool{}
	for _, r := range append(h.Replicas[:len(h.Replicas):len(h.Replicas)], h.Last...) {
		one, seen := first[r.Act]
		switch {
		case !seen:
			first[r.Act] = r
		case one.Digest != r.Digest && !told[r.Act]:
			told[r.Act] = true
			v.add([16]byte{}, r.Node, "its state at act %d is %s, that of %s was %s", r.Act, r.Digest, one.Node, one.Digest)
		}
	}
	for _, r := range h.Last {
		if r.Act != h.Last[0].Act {
			v.add([16]byte{}, r.Node, "at rest it is at act %d, %s at act %d", r.Act, h.Last[0].Node, h.Last[0].Act)
		}
	}
	return v.found
}
