package budget

// Tally counts the acts of an agent's life.
type Tally struct {
	Returned uint64 // memory was given back
	Refused  uint64 // times that sessions and bulk were refused from then on
	Restarts uint64 // of this boot
	Refusing string // why nothing large is taken now; "": it is
}

// Count returns the tally with an act more.
func (t Tally) Count(a Act) Tally {
	switch a.Do {
	case Return:
		t.Returned++
	case Refuse:
		t.Refused++
		t.Refusing = a.Why
	case Admit:
		t.Refusing = ""
	case Restart:
		t.Restarts++
	}
	return t
}
