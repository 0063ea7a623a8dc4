package main

// escapeAct is what a person wants of muster itself in the middle of a session.
type escapeAct uint8

const (
	actNone    escapeAct = iota
	actEnd               // ~. ends the session
	actHelp              // ~? says what there is
	actSuspend           // ~Ctrl-Z stops muster, as Ctrl-Z stops other programs
)

const controlZ = 'Z' - '@'

// escapeHelp is shown for ~?.
const escapeHelp = `~.   end the session
~^Z  suspend muster; fg brings the session back
~?   this list
~~   one ~
They count at the beginning of a line.`

// escapes finds what is meant for muster among what is typed for the program: ~ at the beginning of a line and one more
// character, as ssh has it. The zero value stands at the beginning of a line.
type escapes struct {
	inLine bool // something was typed since the line began
	tilde  bool // a ~ is held back until it is known what it is
}

// take returns what of typed is for the program, up to the first act; rest stands behind that.
func (e *escapes) take(typed []byte) (pass []byte, act escapeAct, rest []byte) {
	for i, c := range typed {
		if e.tilde {
			e.tilde = false
			if act := actOf(c); act != actNone {
				return pass, act, typed[i+1:]
			}
			pass = append(pass, '~')
			e.inLine = true
			if c == '~' {
				continue
			}
		}
		if c == '~' && !e.inLine {
			e.tilde = true
			continue
		}
		pass = append(pass, c)
		e.inLine = c != '\r' && c != '\n'
	}
	return pass, actNone, nil
}

// rest gives what was held back when nothing more is typed.
func (e *escapes) rest() []byte {
	if !e.tilde {
		return nil
	}
	e.tilde = false
	return []byte{'~'}
}

func actOf(c byte) escapeAct {
	switch c {
	case '.':
		return actEnd
	case '?':
		return actHelp
	case controlZ:
		return actSuspend
	}
	return actNone
}
