package flow

// A window is how many bytes one end may have pushed that the other has not consumed. Both ends of a session must use the same.
const (
	// TerminalWindow keeps little under way, so that what is typed takes effect before much more is shown.
	TerminalWindow = 256 << 10
	// BulkWindow carries 80 MB/s over a way of 50 ms. It is memory only while somebody is slow.
	BulkWindow = 4 << 20
	// Reserve is what Resize, Signal, Notice, EndOfInput and Exit may take beyond the window: a signal must reach a program that
	// does not read, and its end a viewer that does not either.
	Reserve = 16 << 10
)

// weight is what a frame takes of a window beside its payload: about what holding it costs, so that many small frames are
// no way around the bound.
const weight = 64

// ackEvery is how much may be consumed before it is acknowledged unasked. A window has room for it and a longest frame, or both
// ends would wait for each other.
const ackEvery = 64 << 10

// Window returns the window of a session with or without a terminal.
func Window(terminal bool) int {
	if terminal {
		return TerminalWindow
	}
	return BulkWindow
}

// fits reports whether a frame of so many bytes may be added to what is held.
func fits(held, size int, k kind, window int) bool {
	switch k {
	case kindInput, kindOutput, kindErrorOutput:
		return held+weight+size <= window
	default:
		return held+weight+size <= window+Reserve
	}
}
