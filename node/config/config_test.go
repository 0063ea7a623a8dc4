package config

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeysAreFewAndEachHasAReason(t *testing.T) {
	keys := Keys()
	if len(keys) > MaxKeys {
		t.Errorf("%d keys; at most %d", len(keys), MaxKeys)
	}
	for i, k := range keys {
		if k.Reason == "" || k.Allowed() == "" {
			t.Errorf("%s has no reason, or takes nothing", k.Name)
		}
		if (k.Default == "") == (k.Without == "") {
			t.Errorf("%s has a default and says what holds without one, or neither", k.Name)
		}
		if err := k.Check(k.Default); err != nil {
			t.Errorf("the default: %v", err)
		}
		for preset, text := range k.Presets {
			if err := k.Check(text); err != nil || text == "" {
				t.Errorf("preset %s: %v", preset, err)
			}
		}
		if slices.ContainsFunc(keys[:i], func(other Key) bool { return other.Flag() == k.Flag() }) {
			t.Errorf("%s is there twice", k.Name)
		}
	}
}

func TestFileSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, c := range []struct{ text, where, what, hint string }{
		{"bind: 10.0.0.1:7980\nlog.levle: debug\n", "f:2", `there is no key "log.levle"`, "did you mean log.level?"},
		{"log_level: debug\n", "f:1", `there is no key "log_level"`, "did you mean log.level?"},
		{"zzz: 1\n", "f:1", `there is no key "zzz"`, "the keys are preset, name"},
		{"log:\n  level: debug\n", "f:1", "keys do not nest", "write log.level: … on one line"},
		{"# c\n\npaused: true\npaused: false\n", "f:4", "paused is there twice: in line 3 too", ""},
		{"paused:\n", "f:1", "paused has no value", "it is true or false; or leave the line out"},
		{"paused: [true]\n", "f:1", "paused is true or false", ""},
		{"advertise: [{a: b}]\n", "f:1", "advertise is a list of IP:PORT", ""},
		{"paused: &x true\n", "f:1", "paused is true or false", ""},
		{"paused: !!str true\n", "f:1", "paused is true or false", ""},
		{"- paused\n", "f:1", "a configuration is lines of KEY: VALUE", "for example log.level: debug"},
		{"paused\n", "f:1", "a configuration is lines of KEY: VALUE", "for example log.level: debug"},
		{"bind: a\n\tb: c\n", "f:2", "", ""},
		{"? [a]\n: b\n", "f:1", "a key is a word", ""},
		{"paused: \xff\n", "f", "a configuration is UTF-8 text without zero bytes", ""},
		{"paused: true\x00\n", "f", "a configuration is UTF-8 text without zero bytes", ""},
		{strings.Repeat("#", MaxFile+1), "f", "65537 bytes; a configuration has at most 65536", ""},
	} {
		_, problems := Parse("f", []byte(c.text))
		if len(problems) != 1 {
			t.Errorf("%.40q: %v", c.text, problems)
			continue
		}
		if p := problems[0]; p.Where != c.where || !strings.Contains(p.What, c.what) || !strings.HasPrefix(p.Hint, c.hint) {
			t.Errorf("%.40q: %+v", c.text, p)
		}
	}
}

func TestEmptyFilesSayNothing(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "{}\n", "null\n"} {
		if given, problems := Parse("f", []byte(text)); len(given)+len(problems) > 0 {
			t.Errorf("%q: %v, %v", text, given, problems)
		}
	}
}

func TestEveryProblemIsSaid(t *testing.T) {
	given, problems := Parse("f", []byte("pausd: true\nshell: maybe\nlog.level: loud\nbind: host:1\n"))
	_, more := Resolve(given)
	all := append(problems, more...)
	if len(all) != 4 {
		t.Fatalf("%v", all)
	}
	err := Error(all)
	if err == nil || err.Error() != `f:1: there is no key "pausd" (and 3 more)` {
		t.Errorf("%v", err)
	}
	if want := `shell is true or false, not "maybe"`; all[1].Where != "f:2" || all[1].What != want {
		t.Errorf("%+v", all[1])
	}
	if Error(nil) != nil {
		t.Error("no problem is an error")
	}
}

func TestValuesThatAreAllowed(t *testing.T) {
	for _, c := range []struct {
		key      string
		yes, nos []string
	}{
		{KeyPreset, []string{"lan", "wan", "edge"}, []string{"LAN", "wlan"}},
		{KeyName, []string{"web1", "web-1.lab"}, []string{"Web1", "-a", strings.Repeat("a", 64)}},
		{KeyBind, []string{"10.0.0.1:7980", "[::]:7980", "0.0.0.0", "::1"}, []string{"host:7980", "10.0.0.1:", "10.0.0.1:70000", "10.0.0"}},
		{KeyAdvertise, []string{"10.0.0.1:7980", "10.0.0.1:7980, [2001:db8::1]:7980"}, []string{"10.0.0.1:7980,web1"}},
		{KeyPaused, []string{"true", "false"}, []string{"yes", "True", "1"}},
		{KeyMemoryBudget, []string{"64MiB", "2GiB", "16384KiB", "off"}, []string{"64MB", "64", "1KiB", "-64MiB", "+64MiB", "99999999999999GiB", "0MiB", "MiB"}},
		{KeyCPUBudget, []string{"50%", "400%", "off"}, []string{"50", "0%", "-5%", "%", "1000000%"}},
		{KeySessionsMax, []string{"1", "256", "off"}, []string{"0", "-1", "1e3", "99999999"}},
		{KeyMetricsAddress, []string{"7981", ":7981", "10.0.0.1:7981", "[::]:7981"}, []string{"0", "host:7981", "10.0.0.1", "10.0.0.1:0", "70000"}},
		{KeyLogLevel, []string{"debug", "error"}, []string{"trace", "INFO"}},
	} {
		k, _ := Find(c.key)
		for _, text := range c.yes {
			if err := k.Check(text); err != nil {
				t.Error(err)
			}
		}
		for _, text := range c.nos {
			if k.Check(text) == nil {
				t.Errorf("%s may be %q", c.key, text)
			}
		}
	}
}

func TestPrecedence(t *testing.T) {
	c, problems := Resolve([]Given{
		{KeyBind, "10.0.0.1:1", Origin{Source: Folder}},
		{KeyBind, "10.0.0.2:2", Origin{Source: File, Where: "f:1", Line: 1}},
		{KeyLogLevel, "warn", Origin{Source: File, Where: "f:2", Line: 2}},
		{KeyLogLevel, "debug", Origin{Source: Environment, Where: "$MUSTER_LOG_LEVEL"}},
		{KeyLogLevel, "error", Origin{Source: Flag, Where: "--log-level"}},
		{KeyPreset, "edge", Origin{Source: File, Where: "f:3", Line: 3}},
		{KeyRunsMax, "2", Origin{Source: File, Where: "f:4", Line: 4}},
		{KeyCPUBudget, "off", Origin{Source: File, Where: "f:5", Line: 5}},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for key, want := range map[string][2]string{
		KeyBind: {"10.0.0.2:2", "f:1"}, KeyLogLevel: {"error", "--log-level"}, KeyRunsMax: {"2", "f:4"}, KeyCPUBudget: {"off", "f:5"},
		KeyMemoryBudget: {"80MiB", "preset edge"}, KeyLogFormat: {"text", "default"}, KeyName: {"", "default"},
	} {
		if v := c.Get(key); v.Text != want[0] || v.Origin.String() != want[1] {
			t.Errorf("%s is %q by %s, not %v", key, v.Text, v.Origin, want)
		}
	}
	if b := c.Budgets(); b != (Budgets{MemoryBytes: 80 << 20}) {
		t.Errorf("%+v", b)
	}
	if l := c.Limits(); l != (Limits{Sessions: 8, Runs: 2, OutputKeep: 256 << 20}) {
		t.Errorf("%+v", l)
	}
	if (Config{}).LogLevel() != "info" || (Config{}).Consent() != (Consent{}) {
		t.Error("the zero configuration is not the default one")
	}
}

func TestPrecedenceWhateverTheOrder(t *testing.T) {
	k, _ := Find(KeySessionsMax)
	rapid.Check(t, func(t *rapid.T) {
		sources := rapid.SliceOfDistinct(rapid.SampledFrom([]Source{ByCommand, Flag, Environment, File, Folder}), func(s Source) Source { return s }).Draw(t, "sources")
		var given []Given
		for _, s := range sources {
			given = append(given, Given{k.Name, strings.Repeat("1", int(s)), Origin{Source: s}})
		}
		c, problems := Resolve(given)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		want := Default
		for _, s := range sources {
			want = min(want, s)
		}
		if v := c.Get(k.Name); v.Origin.Source != want {
			t.Fatalf("%v of %v", v, sources)
		}
	})
}

func TestChangesThatARunningAgentTakes(t *testing.T) {
	old := resolved(t, "bind: 10.0.0.1:1\nshell: true\nlog.level: info\n")
	next := resolved(t, "bind: 10.0.0.2:2\nshell: false\nlog.level: debug\n")
	live, later := Changed(old, next)
	if names(live) != "shell upgrades log.level" || names(later) != "bind" {
		t.Errorf("live %s, later %s", names(live), names(later))
	}
	now := Running(old, next)
	if now.Bind() != "10.0.0.1:1" || now.LogLevel() != "debug" || now.Consent().NoShell == "" {
		t.Errorf("%v", now.All())
	}
	if live, later := Changed(now, now); len(live)+len(later) > 0 {
		t.Error("what has not changed has")
	}
}

func TestConsentNamesWhereItIsSaid(t *testing.T) {
	if c := resolved(t, "shell: true\npaused: false\nupgrades: true\n").Consent(); c != (Consent{}) {
		t.Errorf("%+v", c)
	}
	c := resolved(t, "preset: lan\npaused: true\nshell: false\nupgrades: false\n").Consent()
	for why, want := range map[string]string{c.Paused: "paused: true in f:2", c.NoShell: "shell: false in f:3", c.NoUpgrades: "upgrades: false in f:4"} {
		if !strings.Contains(why, want) {
			t.Errorf("%q has no %q", why, want)
		}
	}
	if len(c.Lines()) != 3 {
		t.Error(c.Lines())
	}
	for text, want := range map[string]string{ // who refuses a shell permits upgrades only in so many words
		"shell: false\n": "shell: false in f:1", "shell: false\nupgrades: true\n": "", "upgrades: true\nshell: false\n": "", "shell: true\n": "",
		"shell: false\nupgrades: false\n": "upgrades: false in f:2",
	} {
		if why := resolved(t, text).Consent().NoUpgrades; (why == "") != (want == "") || !strings.Contains(why, want) {
			t.Errorf("%q: upgrades: %q", text, why)
		}
	}
	live, _ := Changed(resolved(t, "shell: true\n"), resolved(t, "shell: false\n"))
	if names(live) != "shell upgrades" {
		t.Errorf("a running agent takes %s", names(live))
	}
	if !strings.Contains(c.NoShell, "who may publish documents") {
		t.Errorf("%q promises more than it holds", c.NoShell)
	}
	told, _ := Resolve([]Given{{KeyPaused, "false", Origin{File, "f:1", 1}}, {KeyPaused, "true", Origin{Source: ByCommand, Where: "muster agent pause by ann"}}})
	if why := told.Consent().Paused; !strings.HasSuffix(why, "(muster agent pause by ann)") {
		t.Error(why)
	}
}

func resolved(t *testing.T, text string) Config {
	t.Helper()
	given, problems := Parse("f", []byte(text))
	c, more := Resolve(given)
	if err := Error(append(problems, more...)); err != nil {
		t.Fatal(err)
	}
	return c
}

func names(values []Value) string {
	var out []string
	for _, v := range values {
		out = append(out, v.Name)
	}
	return strings.Join(out, " ")
}

// FuzzConfig: whatever a file says, every value that counts is valid, and nothing of it is passed over in silence.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{"paused: true\n", "log:\n  level: debug\n", "advertise: [10.0.0.1:1]\n", "a: &a [*a]\n", "? x\n", "preset: edge\n---\npreset: lan\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		given, problems := Parse("f", text)
		c, more := Resolve(given)
		for _, v := range c.All() {
			k, _ := Find(v.Name)
			if err := k.Check(v.Text); err != nil {
				t.Error(err)
			}
		}
		for _, p := range append(problems, more...) {
			if !strings.HasPrefix(p.Where, "f") || p.What == "" {
				t.Errorf("%+v", p)
			}
		}
		if len(problems)+len(given) == 0 && strings.Contains(string(text), "paused: true\n") && !strings.Contains(string(text), "#") {
			t.Errorf("%q says nothing", text)
		}
	})
}
