package cast

import "time"

// A session that is looked on at is told in the lines that its recording would have, as it goes on: nothing of it is left out,
// sealed or kept. A Reader reads it.

// AppendHeader appends the line that a recording, or such a tale, begins with.
func AppendHeader(dst []byte, h Header) []byte { return append(dst, h.encode()...) }

// AppendOutput appends what a program wrote, a moment after the start; an event is cut where its bytes are.
func AppendOutput(dst []byte, at time.Duration, onError bool, p []byte) []byte {
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		dst = appendData(dst, at, codeOutput, onError, piece)
		p = p[len(piece):]
	}
	return dst
}

// AppendResize appends a size of the terminal.
func AppendResize(dst []byte, at time.Duration, rows, cols uint16) []byte {
	return appendEvent(dst, at, codeResize, sizeText(rows, cols))
}

// AppendMark appends a remark. What text is beyond 4 KiB is cut.
func AppendMark(dst []byte, at time.Duration, m Mark, text string) []byte {
	return appendMark(dst, at, m, text)
}

// AppendEnd appends the end: nothing comes behind it.
func AppendEnd(dst []byte, at time.Duration, e End) []byte {
	return appendMark(dst, at, MarkEnd, e.text(0))
}
