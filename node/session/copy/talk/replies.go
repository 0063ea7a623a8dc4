package talk

// Replies holds a receiver to the rules. What is named is told to it, so that it can be told apart from what is not.
type Replies struct {
	Resume bool

	named  uint64
	failed uint64
	asked  []uint64 // files that Have has to answer, in order
	ended  bool
	over   bool
}

// Named takes note of an entry that goes out, and returns its number.
func (r *Replies) Named(isFile bool) uint64 {
	r.named++
	if isFile && r.Resume {
		r.asked = append(r.asked, r.named)
	}
	return r.named
}

// Ended takes note of the End that goes out.
func (r *Replies) Ended() { r.ended = true }

// Take refuses what a receiver may not say now. An error ends the copy.
func (r *Replies) Take(m Message) error {
	if r.over {
		return errOutOfTurn
	}
	switch m := m.(type) {
	case Have:
		if len(r.asked) == 0 || r.asked[0] != m.N || m.Size < 0 {
			return errOutOfTurn
		}
		r.asked = r.asked[1:]
		return nil
	case Failed:
		r.failed++
		if m.N == 0 || m.N > r.named || r.failed > r.named {
			return errOutOfTurn
		}
		return nil
	case Finished:
		if !r.ended {
			return errOutOfTurn
		}
		r.over = true
		return nil
	case Fatal:
		r.over = true
		return nil
	case Elsewhere:
		if r.failed > 0 || len(m.Paths) == 0 {
			return errOutOfTurn
		}
		r.over = true
		return nil
	}
	return errOutOfTurn
}
