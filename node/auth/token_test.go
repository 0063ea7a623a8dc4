package auth

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

func joinString(addrs ...string) JoinString {
	seed := fleet.Sum([]byte("seed"))
	return JoinString{Seed: seed[:], Token: uuid("token"), Fleet: fleet.Sum([]byte("fleet")), Head: fleet.Sum([]byte("head")), Addrs: addrs}
}

func TestJoinString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addrs := rapid.SliceOfN(rapid.SampledFrom([]string{"10.1.2.3:7980", "[fe80::1%eth0]:7980", "[2001:db8::1]:1"}), 0, MaxJoinAddresses).Draw(t, "addresses")
		j := joinString(addrs...)
		text := j.String()
		var mailed strings.Builder // as a mail breaks it
		for i, r := range text {
			if i%rapid.IntRange(20, 80).Draw(t, "width") == 0 {
				mailed.WriteString(rapid.SampledFrom([]string{"\n", "\r\n", "  ", "\t", "\u00a0"}).Draw(t, "space"))
			}
			mailed.WriteRune(r)
		}
		for _, in := range []string{text, mailed.String(), " \n" + text + "\n"} {
			got, err := ParseJoinString(in)
			if err != nil || !slices.Equal(got.Seed, j.Seed) || got.Token != j.Token || got.Fleet != j.Fleet || got.Head != j.Head || !slices.Equal(got.Addrs, j.Addrs) {
				t.Fatalf("%q: %v", in, err)
			}
			if got.String() != text || !slices.Equal(got.Signer().Public(), j.Signer().Public()) {
				t.Fatal("the string or the key changed on the way")
			}
		}
	})
}

func TestDamagedJoinStrings(t *testing.T) {
	text := joinString("10.1.2.3:7980").String()
	for i := range len(text) { // cut anywhere
		if _, err := ParseJoinString(text[:i]); err == nil {
			t.Fatalf("cut at %d: accepted", i)
		}
	}
	for i := range len(text) { // any letter changed
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		if _, err := ParseJoinString(text[:i] + string(other) + text[i+1:]); err == nil {
			t.Fatalf("letter %d changed: accepted", i)
		}
	}
	for i := range 3 { // bits behind the last byte are no second spelling, whatever the length leaves of them
		text := joinString("10.1.2.3:" + strings.Repeat("1", i+1)).String()
		for _, other := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			changed := text[:len(text)-1] + string(other)
			if _, err := ParseJoinString(changed); err == nil && changed != text {
				t.Fatalf("last letter changed to %c: accepted", other)
			}
		}
	}
	many := make([]string, MaxJoinAddresses+1)
	for i := range many {
		many[i] = "10.0.0.1:1"
	}
	short := joinString()
	short.Seed = short.Seed[:31]
	for name, tc := range map[string]struct{ in, says string }{
		"empty":              {"", "no join string"},
		"something else":     {"ssh-ed25519 AAAA", "no join string"},
		"next version":       {strings.Replace(text, "-1.", "-2.", 1), "no join string"},
		"prefix alone":       {joinPrefix, "damaged or cut"},
		"not base64":         {text + "!", "damaged or cut"},
		"padded":             {text + "==", "damaged or cut"},
		"twice":              {text + text, "damaged or cut"},
		"17 addresses":       {joinString(many...).String(), "damaged"},
		"a name for address": {joinString("evil\x1b[2J.example:1").String(), `\x1b[2J`}, // quoted, so that no terminal obeys it
		"short seed":         {short.String(), "damaged"},
		"a megabyte":         {joinPrefix + strings.Repeat("A", 1<<20), "at most"},
	} {
		_, err := ParseJoinString(tc.in)
		t.Run(name, func(t *testing.T) { refused(t, err, fleet.Invalid, tc.says) })
		if err != nil && (strings.ContainsRune(err.Error(), 0x1b) || strings.Contains(err.Error(), text[20:40])) {
			t.Errorf("%s: the error repeats what it was given: %v", name, err)
		}
	}
}

// The largest join string fits the bound on its text.
func TestLargestJoinString(t *testing.T) {
	addrs := slices.Repeat([]string{"[2001:db8:1111:2222:3333:4444:5555:6666%enp0s31f6.1234]:65535"}, MaxJoinAddresses)
	if _, err := ParseJoinString(joinString(addrs...).String()); err != nil {
		t.Error(err)
	}
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"web*", "web", true}, {"web*", "web01", true}, {"web*", "we", false}, {"*", "x", true}, {"", "x", true},
		{"web0?", "web01", true}, {"web0?", "web0", false}, {"web0?", "web011", false}, {"*b*b", "bb", true}, {"*b*b", "b", false},
		{"a*b*c", "axbybzc", true}, {"a*b*c", "acb", false}, {"**", "x", true}, {"web", "web", true}, {"web", "web1", false},
		{strings.Repeat("*a", 31), strings.Repeat("a", 62) + "b", false}, // no explosion
	} {
		tk := Token{Header: Header{Expires: start}, Pattern: tc.pattern}
		if err := tk.Permits(tc.name, at(start-1)); (err == nil) != tc.want {
			t.Errorf("%q for %q: %v", tc.name, tc.pattern, err)
		}
	}
}

// Ask names the tags that the token gives away, and whether it makes servers.
func TestTokenAsk(t *testing.T) {
	tk := Token{Tags: map[string]string{"env": "prod"}, Server: true}
	a := tk.Ask(operator("bob", "dev"), "lab")
	if a.Action != ActPutToken || !a.Server || a.Resource.Tags["env"] != "prod" || a.Resource.Type != "Fleet" || a.Resource.Name != "lab" ||
		a.Principal.Name != "bob" || a.Principal.Teams[0] != "dev" {
		t.Errorf("asked %+v", a)
	}
}
