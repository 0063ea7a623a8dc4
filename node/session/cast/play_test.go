package cast

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// timed notes when something was written.
type timed struct {
	start time.Time
	log   []string
}

func (w *timed) Write(p []byte) (int, error) {
	w.log = append(w.log, time.Since(w.start).String()+" "+string(p))
	return len(p), nil
}

func recording(t *testing.T, term string, at ...time.Duration) []byte {
	t.Helper()
	d := newDisk()
	h := header()
	h.Terminal = term
	w, clock := begin(t, d, h, Options{})
	for i, at := range at {
		clock.now = began.Add(at)
		w.Output([]byte{byte('a' + i)})
	}
	w.ErrorOutput([]byte("!"))
	end(t, w)
	return d.data.Bytes()
}

func TestPlay(t *testing.T) {
	data := recording(t, "", time.Second, 3*time.Second, time.Minute)
	for _, c := range []struct {
		name string
		pace Pace
		want string
	}{
		{"as it was", Pace{}, "1s a|3s b|1m0s c"},
		{"twice as fast", Pace{Speed: 2}, "500ms a|1.5s b|30s c"},
		{"without long waits", Pace{Idle: 2 * time.Second}, "1s a|3s b|5s c"},
		{"both", Pace{Speed: 4, Idle: 2 * time.Second}, "250ms a|750ms b|1.25s c"},
		{"from later on", Pace{From: 2 * time.Second}, "0s a|1s b|58s c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := Open(bytes.NewReader(data), nil)
				if err != nil {
					t.Fatal(err)
				}
				out := timed{start: time.Now()}
				var errs bytes.Buffer
				if err := Play(t.Context(), r, &out, &errs, c.pace); err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(out.log, "|"); got != c.want || errs.String() != "!" {
					t.Errorf("%q and %q, want %q", got, errs.String(), c.want)
				}
			})
		})
	}
}

// Events that run back in time are shown at once, and the time that was waited for does not count twice.
func TestPlayBackwards(t *testing.T) {
	text := `{"version":2,"width":80,"height":24}` + "\n" + `[3,"o","a"]` + "\n" + `[2,"o","b"]` + "\n" + `[4,"o","c"]` + "\n"
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(strings.NewReader(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		out := timed{start: time.Now()}
		if err := Play(t.Context(), r, &out, &out, Pace{}); err != nil || strings.Join(out.log, "|") != "3s a|3s b|4s c" {
			t.Errorf("%q, %v", out.log, err)
		}
	})
}

// Whoever stops watching has his terminal back.
func TestPlayStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(bytes.NewReader(recording(t, "xterm", time.Second, time.Hour)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out bytes.Buffer
		if err := Play(ctx, r, &out, &out, Pace{}); !errors.Is(err, context.DeadlineExceeded) || out.String() != "a"+calm {
			t.Errorf("%v after %q", err, out.String())
		}
	})
}

func TestTame(t *testing.T) {
	same := []string{
		"plain é世\r\n\t\b\a", "\x1b[1;31mred\x1b[0m\x1b[38;2;1;2;3m\x1b[4:3m", "\x1b[2J\x1b[H\x1b[10;20f\x1b[K\x1b[3A\x1b[?25l\x1b[?1049h",
		"\x1b7\x1b8\x1bM\x1b(0\x1b(B\x1bc\x1b#8", "\x1b[1;20r\x1b[2L\x1b[2P\x1b[4h\x1b[!p\x1b[2 q\x1b[?1;5J",
	}
	for _, text := range same {
		if got := new(Tame).Show([]byte(text)); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	for name, text := range map[string]string{
		"where is the cursor": "\x1b[6n", "what are you": "\x1b[c\x1b[>c\x1b[=c\x1bZ\x05\x1b[>q", "what is your size": "\x1b[18t\x1b[21t",
		"a title": "\x1b]0;rm -rf /\x07\x1b]2;x\x1b\\", "the clipboard": "\x1b]52;c;cm0K\x07", "a link": "\x1b]8;;http://x\x1b\\",
		"colours asked": "\x1b]11;?\x1b\\", "keys": "\x1b=\x1b>\x1b[?1h\x1b[>4;2m\x1b[?2004h\x1b[>1u", "mouse": "\x1b[?1000h\x1b[?1003;1006h\x1b[?25;1000h",
		"device control": "\x1bP+q544e\x1b\\\x1bP$qm\x1b\\", "others": "\x1b_G\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\", "in eight bits": "\x9b\x9d\x9c",
		"in two bytes": "\u009b", "modes asked": "\x1b[?2026$p\x1b[4$p", "parameters asked": "\x1b[x\x1b[1$w", "printing": "\x1b[5i", "private": "\x1b[>1J\x1b[>25h\x1b[=K", "unfinished": "\x1b[12;",
		"too long": "\x1b[" + strings.Repeat("1;", maxSequence/2), "delete": "\x7f\x00",
	} {
		if got := new(Tame).Show([]byte(text)); len(got) > 0 {
			t.Errorf("%s: %q is shown", name, got)
		}
	}
}

// A raw replay is what the program wrote.
func TestPlayRaw(t *testing.T) {
	d := newDisk()
	w, _ := begin(t, d, header(), Options{})
	w.Output([]byte("\x1b]0;x\a\xff"))
	end(t, w)
	for raw, want := range map[bool]string{true: "\x1b]0;x\a\xff", false: calm} {
		r, err := Open(bytes.NewReader(d.data.Bytes()), nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Play(t.Context(), r, &out, &out, Pace{Raw: raw}); err != nil || out.String() != want {
			t.Errorf("raw %v: %q, %v", raw, out.String(), err)
		}
	}
}
