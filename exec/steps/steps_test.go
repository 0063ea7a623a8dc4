package steps

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

// play is a run: each step's attempts end as told, in turn.
type play struct {
	t    testing.TB
	g    Progress
	boot int
}

func begin(t testing.TB, limit int64, codes bool, steps ...Step) *play {
	t.Helper()
	for i := range steps {
		if steps[i].Name == "" {
			steps[i].Name = string(rune('a' + i))
		}
	}
	g, err := Open(Opened{Plan: Plan{Steps: steps, Codes: codes}.Outline(), Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return &play{t: t, g: g}
}

func (p *play) bootID() string { return strings.Repeat("b", p.boot+1) }

// do starts the next attempt, which must be of the step named, and ends it.
func (p *play) do(name string, e Ended) *play {
	p.t.Helper()
	m, ok := p.g.Next(p.bootID()).(Start)
	if !ok || p.g.plan.Steps[m.Step].Name != name {
		p.t.Fatalf("next is %+v, want step %s", p.g.Next(p.bootID()), name)
	}
	p.add(Began{Step: m.Step, Attempt: m.Attempt, Boot: p.bootID()})
	e.Step, e.Attempt = m.Step, m.Attempt
	return p.add(e)
}

func (p *play) add(e Entry) *play {
	p.t.Helper()
	var err error
	if p.g, err = p.g.Add(e); err != nil {
		p.t.Fatal(err)
	}
	return p
}

func (p *play) statuses() string {
	var out []string
	for _, r := range p.g.Results(0, 0) {
		out = append(out, r.Name+":"+string(r.Status))
	}
	return strings.Join(out, " ")
}

func (p *play) done(status Status, code int, statuses string) {
	p.t.Helper()
	m, ok := p.g.Next(p.bootID()).(Done)
	if !ok || m.Outcome.Status != status || m.Outcome.ExitCode != code || p.statuses() != statuses {
		p.t.Errorf("%+v, %s; want %s %d, %s", p.g.Next(p.bootID()), p.statuses(), status, code, statuses)
	}
}

func ok() Ended             { return Ended{Status: Success, Ran: 1} }
func code(n int) Ended      { return Ended{Status: Failed, ExitCode: n, Ran: 1} }
func signalled(n int) Ended { return Ended{Status: Failed, ExitCode: -1, Signal: n, Ran: 1} }

func TestFlows(t *testing.T) {
	const limit = 1000
	begin(t, limit, true, Step{}, Step{}).do("a", ok()).do("b", ok()).done(Success, 0, "a:Success b:Success")
	begin(t, limit, true, Step{}, Step{}).do("a", code(3)).do("b", ok()).done(Failed, 3, "a:Failed b:Success")
	begin(t, limit, true, Step{}).do("a", signalled(9)).done(Failed, -1, "a:Failed")
	begin(t, limit, true, Step{OnFailure: Exit}, Step{}, Step{Finally: true}).do("a", code(3)).do("c", ok()).
		done(Failed, 3, "a:Failed b:Skipped c:Success")
	begin(t, limit, true, Step{OnFailure: SuccessAndExit}, Step{}).do("a", code(3)).done(Success, 0, "a:Failed b:Skipped")
	begin(t, limit, true, Step{}, Step{OnFailure: SuccessAndExit}).do("a", code(2)).do("b", code(3)).
		done(Failed, 2, "a:Failed b:Failed") // the first one's failure still counts
	begin(t, limit, true, Step{OnSuccess: Exit}, Step{}).do("a", ok()).done(Success, 0, "a:Success b:Skipped")
	begin(t, limit, true, Step{OnSuccess: Exit}, Step{}).do("a", code(1)).do("b", ok()).done(Failed, 1, "a:Failed b:Success")
	begin(t, limit, true, Step{Verdict: Skipped}, Step{Verdict: Failed, OnFailure: Exit}, Step{}).
		done(Failed, -1, "a:Skipped b:Failed c:Skipped")
	begin(t, limit, true, Step{Verdict: Skipped}, Step{Verdict: Skipped}).done(Success, 0, "a:Skipped b:Skipped")
	begin(t, limit, true, Step{}, Step{Finally: true}).do("a", ok()).do("b", code(1)).done(Failed, 1, "a:Success b:Failed")
}

func TestExitCodes(t *testing.T) {
	const limit = 1000
	begin(t, limit, true, Step{Attempts: 3}, Step{}).do("a", code(168)).done(Success, 0, "a:Success b:Skipped")
	begin(t, limit, true, Step{Attempts: 3}, Step{}, Step{Finally: true}).do("a", code(169)).do("c", ok()).
		done(Failed, 169, "a:Failed b:Skipped c:Success")
	begin(t, limit, true, Step{OnFailure: SuccessAndExit}, Step{}).do("a", code(169)).done(Failed, 169, "a:Failed b:Skipped")
	begin(t, limit, false, Step{}, Step{}).do("a", code(168)).do("b", code(194)).done(Failed, 168, "a:Failed b:Failed")
	begin(t, limit, true, Step{}).do("a", code(96)).done(Failed, 96, "a:Failed") // of a program it is any code
	begin(t, limit, true, Step{Act: "docker"}).do("a", code(96)).done(InvalidPlatform, 96, "a:InvalidPlatform")
	begin(t, limit, true, Step{Act: "docker", OnFailure: Exit}, Step{}).do("a", code(96)).
		done(InvalidPlatform, 96, "a:InvalidPlatform b:Skipped")
	begin(t, limit, true, Step{Attempts: 2}, Step{}).do("a", Ended{Status: InvalidPlatform}).do("a", ok()).do("b", ok()).
		done(Success, 0, "a:Success b:Success")
}

func TestAttempts(t *testing.T) {
	const limit = 1000
	begin(t, limit, true, Step{Attempts: 3}).do("a", code(1)).do("a", Ended{Status: TimedOut, ExitCode: -1}).do("a", ok()).
		done(Success, 0, "a:Success")
	begin(t, limit, true, Step{Attempts: 2, OnFailure: Exit}, Step{}).do("a", code(1)).do("a", code(2)).
		done(Failed, 2, "a:Failed b:Skipped")
	p := begin(t, limit, true, Step{Attempts: 2}).do("a", code(1))
	if got := p.statuses(); got != "a:InProgress" {
		t.Fatal(got)
	}
}

func TestReboots(t *testing.T) {
	p := begin(t, 1000, true, Step{Attempts: 2}, Step{}).do("a", code(194))
	if m, ok := p.g.Next(p.bootID()).(Reboot); !ok || m.Step != 0 {
		t.Fatalf("%+v", m)
	}
	if _, err := p.g.Add(Began{Step: 0, Attempt: 2, Boot: p.bootID()}); err == nil {
		t.Fatal("the same step began without a reboot")
	}
	p.boot++
	p.do("a", code(1)).do("a", code(194)) // a reboot is no failed attempt
	p.boot++
	p.do("a", ok()).do("b", ok()).done(Success, 0, "a:Success b:Success")
	if r := p.g.Results(0, 0)[0]; r.Attempts != 4 {
		t.Fatalf("%+v", r)
	}
	p = begin(t, 1000, true, Step{}, Step{})
	for range MaxReboots + 1 {
		p.do("a", code(194))
		p.boot++
	}
	p.do("b", ok()).done(Failed, 194, "a:Failed b:Success")
}

func TestTimeouts(t *testing.T) {
	out := func(ran int64) Ended { return Ended{Status: TimedOut, ExitCode: -1, Signal: 9, Ran: ran} }
	begin(t, 100, true, Step{Timeout: 10}, Step{}).do("a", out(10)).do("b", ok()).done(TimedOut, -1, "a:TimedOut b:Success")
	begin(t, 100, true, Step{Timeout: 10, OnFailure: Exit}, Step{}).do("a", out(10)).done(TimedOut, -1, "a:TimedOut b:Skipped")
	begin(t, 100, true, Step{Attempts: 3}, Step{}, Step{Finally: true}).do("a", out(100)).
		done(TimedOut, -1, "a:TimedOut b:Skipped c:Skipped")
	begin(t, 100, true, Step{}).do("a", Ended{Status: Success, Ran: 100}).done(Success, 0, "a:Success")
	begin(t, 100, true, Step{}, Step{}).do("a", Ended{Status: Success, Ran: 100}).done(TimedOut, -1, "a:Success b:Skipped")
	p := begin(t, 100, true, Step{Timeout: 60, Attempts: 2}).do("a", out(60))
	if m := p.g.Next("").(Start); m.Timeout != 40 {
		t.Fatalf("%+v: what is left of the run's time", m)
	}
	begin(t, 100, true, Step{}, Step{}).do("a", Ended{Status: Failed, ExitCode: 194, Ran: 100}).done(TimedOut, 194, "a:TimedOut b:Skipped")
}

func TestCancel(t *testing.T) {
	gone := Ended{Status: Cancelled, ExitCode: -1, Signal: 15}
	begin(t, 100, true, Step{}, Step{}, Step{Finally: true}).do("a", ok()).do("b", gone).
		done(Cancelled, -1, "a:Success b:Cancelled c:Skipped")
	begin(t, 100, true, Step{}, Step{}).do("a", ok()).add(Stopped{Status: Cancelled}).done(Cancelled, -1, "a:Success b:Skipped")
	begin(t, 100, true, Step{}, Step{}).do("a", code(194)).add(Stopped{Status: Failed, Why: "no reboot"}).
		done(Failed, 194, "a:Failed b:Skipped")
	begin(t, 100, true, Step{}, Step{}).do("a", code(4)).do("b", gone).done(Failed, 4, "a:Failed b:Cancelled") // SSM's order
}

func TestDoubt(t *testing.T) {
	p := begin(t, 100, true, Step{}, Step{}).do("a", ok()).add(Began{Step: 1, Attempt: 1})
	if m, ok := p.g.Next("other boot").(Doubt); !ok || m.Step != 1 {
		t.Fatalf("%+v", m)
	}
	p = begin(t, 100, true, Step{}, Step{}).do("a", Ended{Status: Unknown, ExitCode: -1})
	if m, ok := p.g.Next("").(Doubt); !ok || p.statuses() != "a:Unknown" {
		t.Fatalf("%+v %s", m, p.statuses())
	}
	for _, e := range []Entry{Opened{}, Began{Step: 1, Attempt: 1}, Stopped{Status: Failed}, Ended{Step: 0, Attempt: 1, Status: Success}} {
		if _, err := p.g.Add(e); err == nil {
			t.Errorf("%+v followed", e)
		}
	}
}

// What cannot follow is an error: a journal that holds it is not trusted.
func TestContradictions(t *testing.T) {
	fresh := begin(t, 100, true, Step{}, Step{}).g
	for name, e := range map[string]Entry{
		"another step": Began{Step: 1, Attempt: 1}, "no such step": Began{Step: 2, Attempt: 1}, "a later attempt": Began{Step: 0, Attempt: 2},
		"an end without a beginning": Ended{Step: 0, Attempt: 1, Status: Success}, "opened twice": Opened{}, "stopped as a success": Stopped{Status: Success},
	} {
		if _, err := fresh.Add(e); err == nil {
			t.Errorf("%s followed", name)
		}
	}
	running := begin(t, 100, true, Step{}, Step{}).add(Began{Step: 0, Attempt: 1}).g
	for name, e := range map[string]Entry{
		"begun twice": Began{Step: 0, Attempt: 2}, "another attempt's end": Ended{Step: 0, Attempt: 2, Status: Success}, "skipped": Ended{Attempt: 1, Status: Skipped},
		"another step's end": Ended{Step: 1, Attempt: 1, Status: Success}, "negative time": Ended{Attempt: 1, Status: Success, Ran: -1}, "stopped": Stopped{Status: Failed},
	} {
		if _, err := running.Add(e); err == nil {
			t.Errorf("%s followed", name)
		}
	}
	over := begin(t, 100, true, Step{}).do("a", ok()).g
	for _, e := range []Entry{Began{Step: 1, Attempt: 1}, Began{Step: 0, Attempt: 2}, Stopped{Status: Cancelled}} {
		if _, err := over.Add(e); err == nil {
			t.Errorf("%+v followed the end", e)
		}
	}
	for _, entries := range [][]Entry{nil, {Began{}}, {Opened{}}, {Opened{Plan: Plan{Steps: []Step{{}}}}, Opened{}}} {
		if _, err := Fold(entries); err == nil {
			t.Errorf("%+v is a journal", entries)
		}
	}
}

func TestSpans(t *testing.T) {
	p := begin(t, 100, true, Step{}, Step{})
	p.add(Began{Step: 0, Attempt: 1, At: 7}).add(Ended{Step: 0, Attempt: 1, Status: Success, At: 9, Stdout: Written{12, 10}})
	p.add(Began{Step: 1, Attempt: 1, Stdout: Written{12, 10}, Stderr: Written{3, 3}})
	got := p.g.Results(25, 4)
	want := []Result{{Name: "a", Status: Success, Attempts: 1, Started: 7, Ended: 9, Stdout: Span{0, 10}},
		{Name: "b", Status: InProgress, ExitCode: -1, Attempts: 1, Stdout: Span{10, 25}, Stderr: Span{3, 4}}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v", got)
	}
}

func TestCheck(t *testing.T) {
	good := Step{Argv: []string{"true"}}
	if err := (Plan{Steps: []Step{good, {Act: "download"}, {Verdict: Skipped}}}).Check(); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Plan{
		"no steps":       {},
		"too many":       {Steps: make([]Step, MaxSteps+1)},
		"nothing":        {Steps: []Step{{}}},
		"act and argv":   {Steps: []Step{{Act: "x", Argv: []string{"true"}}}},
		"empty program":  {Steps: []Step{{Argv: []string{""}}}},
		"verdict":        {Steps: []Step{{Verdict: Success}}},
		"flow":           {Steps: []Step{{Argv: []string{"true"}, OnFailure: "abort"}}},
		"early finally":  {Steps: []Step{{Argv: []string{"true"}, Finally: true}, good}},
		"attempts":       {Steps: []Step{{Argv: []string{"true"}, Attempts: MaxAttempts + 1}}},
		"script's place": {Steps: []Step{{Script: []byte("x"), ScriptName: "../x"}}},
		"long name":      {Steps: []Step{{Argv: []string{"true"}, Name: strings.Repeat("n", MaxName+1)}}},
	} {
		if p.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPlain(t *testing.T) {
	good := Step{Argv: []string{"true"}}
	if !(Plan{Steps: []Step{good}}).Plain() {
		t.Fatal("one process is not plain")
	}
	for _, p := range []Plan{{Steps: []Step{good, good}}, {Steps: []Step{good}, Codes: true}, {Steps: []Step{{Act: "x"}}},
		{Steps: []Step{{Verdict: Skipped}}}, {Steps: []Step{{Argv: []string{"x"}, Attempts: 2}}}} {
		if p.Plain() {
			t.Errorf("%+v is plain", p)
		}
	}
}

func TestOutlineHoldsNoSecret(t *testing.T) {
	const secret = "hunter2"
	s := Step{Name: "n", Argv: []string{secret}, Script: []byte(secret), Interpreter: []string{secret}, ScriptName: secret, Inputs: []byte(secret),
		Env: []string{"A=" + secret}, Dir: secret}
	out, _ := Append(nil, fleet.ID{}, Opened{Plan: Plan{Steps: []Step{s}}.Outline()})
	if strings.Contains(string(out), secret) {
		t.Fatal("the journal holds what only the process needs")
	}
}

func journalOf(command fleet.UUID, entries []Entry) []byte {
	var out []byte
	chain := First(command)
	for _, e := range entries {
		out, chain = Append(out, chain, e)
	}
	return out
}

func TestEntriesRoundTrip(t *testing.T) {
	command := fleet.UUID{1}
	long := strings.Repeat("x", 4*MaxWhy)
	in := []Entry{
		Opened{Plan: Plan{Steps: []Step{{Name: "a", OnFailure: Exit}}, Codes: true}.Outline(), Limit: 5},
		Began{Step: 0, Attempt: 1, At: 1 << 40, Boot: "boot", Stdout: Written{2, 1}, Stderr: Written{4, 3}},
		Ended{Step: 0, Attempt: 1, Status: Failed, ExitCode: 194, Signal: 2, At: 1 << 41, Ran: 9, Stdout: Written{1, 1}, Detail: "why"},
		Stopped{Status: Cancelled, Why: "w", At: 3},
	}
	data := journalOf(command, in)
	r := Decode(command, append(data, make([]byte, 700)...))
	if !reflect.DeepEqual(r.Entries, in) || !r.Clean || r.End != len(data) {
		t.Fatalf("%+v", r)
	}
	if r := Decode(fleet.UUID{2}, data); len(r.Entries) > 0 || r.Clean {
		t.Fatal("another run's journal was read")
	}
	for _, e := range []Entry{Ended{Step: MaxSteps, Attempt: 1 << 31, Status: InvalidPlatform, ExitCode: 1 << 31, Signal: 64, At: 1 << 62, Ran: 1 << 62,
		Stdout: Written{1 << 62, 1 << 62}, Stderr: Written{1 << 62, 1 << 62}, Detail: long}, Began{Boot: long, At: 1 << 62}, Stopped{Why: long}} {
		if data, _ := Append(nil, fleet.ID{}, e); len(data) > MaxEntry {
			t.Errorf("%T takes %d bytes, more than %d", e, len(data), MaxEntry)
		}
	}
	full := Plan{Steps: make([]Step, MaxSteps)}
	name := long[:MaxName]
	for i := range full.Steps {
		full.Steps[i] = Step{Name: name, Action: name, Act: name, Timeout: 1 << 62, Attempts: 1 << 31, OnFailure: SuccessAndExit, OnSuccess: SuccessAndExit,
			Verdict: InvalidPlatform, Why: long}
	}
	if data, _ := Append(nil, fleet.ID{}, Opened{Plan: full.Outline(), Limit: 1 << 62}); len(data) > MaxOpened {
		t.Errorf("Opened takes %d bytes, more than %d", len(data), MaxOpened)
	}
}

// Whatever is torn off or flipped, what is read is a beginning of what was written, and the damage shows.
func TestDamageShows(t *testing.T) {
	command := fleet.UUID{1}
	data := journalOf(command, []Entry{Opened{Plan: Plan{Steps: []Step{{Name: "a"}}}, Limit: 5}, Began{Attempt: 1, Boot: "b"}, Ended{Attempt: 1, Status: Success}})
	whole := Decode(command, data)
	rapid.Check(t, func(t *rapid.T) {
		bad := append([]byte(nil), data...)
		at := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "torn") {
			clear(bad[at:])
		} else {
			bad[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		}
		r := Decode(command, bad)
		if n := len(r.Entries); n > len(whole.Entries) || (n > 0 && !reflect.DeepEqual(r.Entries, whole.Entries[:n])) {
			t.Fatalf("read %+v", r.Entries)
		}
		untouched := reflect.DeepEqual(bad, data)
		torn := len(strings.TrimRight(string(bad), "\x00")) <= r.End
		if r.Clean != (untouched || torn) {
			t.Fatalf("clean is %t", r.Clean)
		}
	})
}

func FuzzDecode(f *testing.F) {
	command := fleet.UUID{1}
	f.Add(journalOf(command, []Entry{Opened{Plan: Plan{Steps: []Step{{Name: "a"}}}, Limit: 5}, Began{Attempt: 1}, Ended{Attempt: 1, Status: Success}, Stopped{Status: Failed}}), byte(0))
	f.Add([]byte{0x90}, byte(kindOpened))
	f.Fuzz(func(t *testing.T, data []byte, kind byte) {
		if kind != 0 { // behind its sum
			body := data
			data = append([]byte{byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind}, body...)
			sum := entrySum(First(command), data)
			data = append(data, sum[:]...)
		}
		r := Decode(command, data)
		if r.End > len(data) || string(journalOf(command, r.Entries)) != string(data[:r.End]) {
			t.Fatalf("%+v is written otherwise", r.Entries)
		}
		g, err := Fold(r.Entries)
		if err == nil {
			g.Next("boot")
			g.Results(1, 1)
		}
	})
}
