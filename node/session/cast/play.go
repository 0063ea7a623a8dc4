package cast

import (
	"context"
	"errors"
	"io"
	"time"
)

// Pace says how a recording is played.
type Pace struct {
	Speed float64       // times as fast as it was; 0: 1
	Idle  time.Duration // the longest wait, before it is sped up; 0: as long as it was
	From  time.Duration // what came earlier is shown at once
	Raw   bool          // everything as the program wrote it: it may set the terminal's title and clipboard, and type
	// Remark is told of every remark when its time comes; nil: nobody is.
	Remark func(Remark)
}

// Play shows a recording: what was on the terminal, and the two streams of what had none. Unless it is raw, only what draws is
// shown (Tame), and a terminal is left as a shell wants it. It returns at the recording's end, with an error of Next or of a
// writer, or when ctx is done.
func Play(ctx context.Context, r *Reader, out, errs io.Writer, p Pace) error {
	if p.Speed <= 0 {
		p.Speed = 1
	}
	s := show{out: out, errs: errs, raw: p.Raw}
	err := s.play(ctx, r, p)
	if r.Header().Terminal != "" && !p.Raw {
		_, later := io.WriteString(out, calm)
		err = errors.Join(err, later)
	}
	return err
}

// show is where a recording is played.
type show struct {
	out, errs   io.Writer
	raw         bool
	tame, tame2 Tame
}

func (s *show) play(ctx context.Context, r *Reader, p Pace) error {
	var last time.Duration // when the event before was
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := pause(ctx, p.wait(last, e.When())); err != nil {
			return err
		}
		last = max(last, e.When())
		switch e := e.(type) {
		case Output:
			if err := s.show(e); err != nil {
				return err
			}
		case Remark:
			if p.Remark != nil {
				p.Remark(e)
			}
		case Input, Resize:
		}
	}
}

// wait is how long the show rests between two moments of the recording.
func (p Pace) wait(last, next time.Duration) time.Duration {
	gap := next - max(last, p.From)
	if p.Idle > 0 {
		gap = min(gap, p.Idle)
	}
	if gap <= 0 {
		return 0
	}
	return time.Duration(min(float64(gap)/p.Speed, float64(maxAt)))
}

func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (s *show) show(o Output) error {
	to, tame := s.out, &s.tame
	if o.OnError {
		to, tame = s.errs, &s.tame2
	}
	data := o.Data
	if !s.raw {
		data = tame.Show(data)
	}
	_, err := to.Write(data)
	return err
}
