package session

import (
	"bytes"
	"context"
	"os"
	"sync"
	"time"

	"github.com/muster-fleet/muster/node/session/flow"
)

// startPumps carries the program's output to the line; the channel is closed when all of it was.
func (s *supervision) startPumps(ctx context.Context) <-chan struct{} {
	var all sync.WaitGroup
	for i, from := range s.child.output {
		all.Go(func() { s.pump(ctx, from, i > 0) })
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// maxRest bounds what is kept of a dead program's output beside the line: more than its pipes hold, unless root made them
// larger.
const maxRest = 4 << 20

// pump records and then says what the program writes. It reads no more than was said: a program that nobody reads waits. When
// it is dead (the context has ended), what is left is kept, so that its end can be recorded though nobody reads.
func (s *supervision) pump(alive context.Context, from *os.File, onError bool) {
	buf := make([]byte, flow.MaxPayload)
	kept, keeping := 0, false
	for {
		n, err := from.Read(buf)
		if n > 0 {
			s.touch()
			s.out.Add(int64(n))
			if s.tape.output(onError, buf[:n]) {
				s.seen.output(onError, buf[:n])
				keeping = keeping || s.line.Push(alive, outputFrame(onError, buf[:n])) != nil
				if kept += n; keeping {
					s.keep(outputFrame(onError, bytes.Clone(buf[:n])))
				} else {
					kept = 0
				}
			}
		}
		if err != nil { // also EIO: nobody has the terminal any more
			return
		}
		if kept > maxRest {
			s.mu.Lock()
			s.cut = true
			s.mu.Unlock()
			return
		}
	}
}

func (s *supervision) keep(f flow.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, f)
}

func outputFrame(onError bool, p []byte) flow.Frame {
	if onError {
		return flow.ErrorOutput(p)
	}
	return flow.Output(p)
}

// urgent takes what must not wait behind input that the program does not read.
func (s *supervision) urgent(f flow.Frame) bool {
	s.touch()
	switch f := f.(type) {
	case flow.Resize:
		if s.child != nil && s.child.screen != nil {
			_ = s.child.screen.resize(f.Rows, f.Cols) // a terminal of another size is no reason to end
			s.tape.resize(f.Rows, f.Cols)
			s.seen.resize(f.Rows, f.Cols)
		}
		return true
	case flow.Signal:
		if n := signalNumber(string(f)); n != 0 && s.child != nil {
			s.signalJob(n)
		}
		return true
	default:
		return false
	}
}

// feed gives the program its input, behind what a session's document types. What it does not take any more is taken off the line
// all the same.
func (s *supervision) feed(ctx context.Context) {
	if profile := s.o.Session.Profile; profile != "" {
		s.write([]byte(profile))
	}
	for {
		number, f, err := s.line.Next(ctx)
		if err != nil {
			return
		}
		switch f := f.(type) {
		case flow.Input:
			s.in.Add(int64(len(f)))
			s.tape.input(f)
			s.write(f)
		case flow.EndOfInput:
			s.endInput()
		default: // urgent takes the others
		}
		s.line.Done(number)
	}
}

func (s *supervision) write(p []byte) {
	if _, err := s.child.input.Write(p); err != nil && s.child.screen == nil {
		s.child.input.Close() // a pipe that nobody reads
	}
}

func (s *supervision) endInput() {
	if s.child.screen == nil {
		s.child.input.Close()
		return
	}
	if char := s.child.screen.endOfInput(); char != 0 {
		s.write([]byte{char})
	}
}

// unblock lets go of input that the program will never read: it is dead.
func (c *child) unblock() { _ = c.input.SetWriteDeadline(time.Unix(1, 0)) }
