package flow

// Frame is one message: of what the program gets (Input, EndOfInput, Resize, Signal), of what it gives (Output, ErrorOutput,
// Notice, Exit), or about the line itself (Have, Ask, Ack). Those about the line have no number and are not sent again.
type Frame interface{ kind() kind }

type (
	// Input is what the program reads; at most MaxPayload bytes.
	Input []byte
	// EndOfInput says that no Input follows.
	EndOfInput struct{}
	// Resize is the new size of the terminal, in characters.
	Resize struct{ Rows, Cols uint16 }
	// Signal is to be sent to the program: its name without SIG (INT, TERM, RTMIN+1). One that nobody knows does nothing.
	Signal string

	// Output is what the program wrote, to its terminal or its standard output; at most MaxPayload bytes.
	Output []byte
	// ErrorOutput is what the program wrote to its standard error, when that is apart; at most MaxPayload bytes.
	ErrorOutput []byte
	// Notice is a line of the supervisor for the person, and not the program's. What is longer than maxText is cut.
	Notice string
	// Exit is how the program ended; nothing of the program follows.
	Exit struct {
		Code   int32  // what it exited with; -1 if it was killed or nobody knows
		Signal string // what killed it, without SIG; empty if nothing did
		Why    string // the supervisor's reason for ending it, or why the end is not known; empty if it ended by itself
	}

	// Have says how many numbered frames one end has taken in all; the other goes on with the next. It is exchanged once, before
	// all others, where whatever sets up the connection does not carry it.
	Have uint64
	// Ask wants an Ack at once: a sign of life.
	Ask struct{}
	// Ack says how many numbered frames, from the first on, have been consumed: the other end may forget them.
	Ack uint64
)

// MaxPayload bounds the bytes of one Input, Output or ErrorOutput: long enough for bulk, short enough that a key that
// is typed waits for no more than one of them in a buffer.
const MaxPayload = 32 << 10

const (
	maxText   = 1 << 10 // bytes of a Notice or a reason
	maxSignal = 16      // bytes of a signal's name; the longest is RTMIN+15
)

type kind byte

// The numbers of the frames as bytes; they do not change.
const (
	kindInput       kind = 1
	kindEndOfInput  kind = 2
	kindResize      kind = 3
	kindSignal      kind = 4
	kindOutput      kind = 5
	kindErrorOutput kind = 6
	kindExit        kind = 7
	kindNotice      kind = 8
	kindAck         kind = 9
	kindAsk         kind = 10
	kindHave        kind = 11
)

func (Input) kind() kind       { return kindInput }
func (EndOfInput) kind() kind  { return kindEndOfInput }
func (Resize) kind() kind      { return kindResize }
func (Signal) kind() kind      { return kindSignal }
func (Output) kind() kind      { return kindOutput }
func (ErrorOutput) kind() kind { return kindErrorOutput }
func (Exit) kind() kind        { return kindExit }
func (Notice) kind() kind      { return kindNotice }
func (Ack) kind() kind         { return kindAck }
func (Ask) kind() kind         { return kindAsk }
func (Have) kind() kind        { return kindHave }

// Direction is who a numbered frame goes to.
type Direction bool

// The directions.
const (
	ToProgram   Direction = true
	FromProgram Direction = false
)

func (d Direction) carries(k kind) bool {
	switch k {
	case kindInput, kindEndOfInput, kindResize, kindSignal:
		return d == ToProgram
	case kindOutput, kindErrorOutput, kindNotice, kindExit:
		return d == FromProgram
	case kindAck, kindAsk, kindHave:
	}
	return false
}

// Numbered reports whether a frame has a number, so that it arrives once and is acknowledged.
func Numbered(f Frame) bool { return ToProgram.carries(f.kind()) || FromProgram.carries(f.kind()) }
