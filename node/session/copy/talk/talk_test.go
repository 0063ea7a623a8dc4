package talk

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

// samples is one message of each kind.
func samples() []Message {
	p := Problem{uint8(fleet.Denied), "no", "ask"}
	return []Message{
		Ask{Version, true, []string{"/srv", "b"}, true, false, true}, Folder{"d", 0o755, -1}, File{"f", 0o600, 1 << 60, 1 << 40}, Link{"l", "../x", 5},
		Leave{}, Body{7, 9}, Data("content"), Done{}, Done{[]Problem{p}}, Skipped{p}, End{}, Have{3, 4, [32]byte{5}}, Failed{9, p},
		Finished{Total{1, 2, 3, 4, 5, 6, 7}}, Fatal{p}, Elsewhere{[]string{"/a", "/b"}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range samples() {
		frame, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		kind, size, err := Header([HeaderSize]byte(frame))
		if err != nil || size != len(frame)-HeaderSize {
			t.Fatalf("%T: %d, %v", want, size, err)
		}
		if got, err := Decode(kind, frame[HeaderSize:]); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%#v came back as %#v, %v", want, got, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	if _, err := Encode(Ask{Paths: []string{strings.Repeat("x", MaxPayload)}}); fleet.KindOf(err) != fleet.Exhausted {
		t.Error(err)
	}
	for _, header := range [][HeaderSize]byte{{kindData, 0, 1, 0, 0}, {kindData, 0xff, 0xff, 0xff, 0xff}, {0}, {kindElsewhere + 1}} {
		if _, _, err := Header(header); err == nil {
			t.Error("accepted", header)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	err := fleet.Errorf(fleet.Denied, "no").Hinted("ask")
	if got := ProblemOf(err).Error(); got.Kind != fleet.Denied || got.Error() != "no" || got.Hint != "ask" {
		t.Error(got)
	}
	if got := ProblemOf(errNoise).Error(); got.Kind != fleet.Invalid {
		t.Error(got)
	}
	if got := (Problem{Kind: 200}).Error(); got.Kind != fleet.Internal {
		t.Error(got)
	}
	if got := ProblemOf(fleet.Errorf(fleet.Denied, "%s", strings.Repeat("x", MaxPayload))); len(got.What) != maxText {
		t.Error(len(got.What))
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "/", "a/b", "../x", "/etc", "a\x00b", strings.Repeat("x", 256)} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"a", "...", "-rf", "\x1b[2J", "\xff", " ", "a\nb", strings.Repeat("x", 255)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for source, want := range map[string]string{
		"": "", "/": "", ".": "", "..": "", "~": "", "~/": "", "a/.": "", "a/..": "", "a/./": "", "//": "",
		"a": "a", "a/": "a", "/a/b": "b", "~/x": "x", "a/~": "~", "a/...": "...", "*.log": "*.log", "d/*": "*",
	} {
		if got := Base(source); got != want {
			t.Errorf("%q arrives as %q, not %q", source, got, want)
		}
	}
}

func TestExpected(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sources string
		name    string
		want    bool
	}{
		{"/a/f", "f", true}, {"/a/f", "g", false}, {"/a/f", "", false}, {"a b", "b", true}, {"d/.", "", true}, {"d/.", "x", false},
		{"*.log", "x.log", true}, {"*.log", "x.txt", false}, {"/x/[ab]", "a", true}, {"/x/[ab]", "[ab]", true}, {"/x/[ab]", "c", false},
		{"[", "[", true}, {"[", "x", false}, {"/var/*", "", true},
	} {
		if got := Expected(strings.Fields(c.sources), c.name); got != c.want && c.name != "" {
			t.Errorf("%s: %q is expected: %v", c.sources, c.name, got)
		}
	}
	for _, c := range []struct {
		sources []string
		want    bool
	}{{[]string{"a"}, false}, {[]string{"a", "b"}, true}, {[]string{"*"}, true}} {
		if Several(c.sources) != c.want {
			t.Error(c)
		}
	}
}

func TestPlaceOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to   string
		is   Standing
		into bool
		want Place
		kind fleet.Kind
	}{
		{"", AFolder, true, Place{".", ""}, 0}, {"d", AFolder, false, Place{"d", ""}, 0}, {"d/", AFolder, true, Place{"d/", ""}, 0},
		{"new", Missing, false, Place{".", "new"}, 0}, {"/a/new", Missing, false, Place{"/a/", "new"}, 0}, {"/new", Missing, false, Place{"/", "new"}, 0},
		{"f", AFile, false, Place{".", "f"}, 0},
		{"new", Missing, true, Place{}, fleet.NotFound}, {"new/", Missing, false, Place{}, fleet.NotFound}, {"f", AFile, true, Place{}, fleet.Conflict},
		{"a/..", Missing, false, Place{}, fleet.NotFound}, {"/dev/null", Another, false, Place{}, fleet.Conflict}, {"a\x00b", Missing, false, Place{}, fleet.Invalid},
	} {
		got, err := PlaceOf(c.to, c.is, c.into)
		if got != c.want || (err != nil && fleet.KindOf(err) != c.kind) || (err == nil) != (c.kind == 0) {
			t.Errorf("%q: %+v, %v", c.to, got, err)
		}
	}
}

// TestOutOfTurn: what a sender may not say.
func TestOutOfTurn(t *testing.T) {
	t.Parallel()
	file := File{Name: "f", Size: 3}
	for name, c := range map[string]struct {
		inbox Inbox
		said  []Message // all but the last are in turn
	}{
		"a folder that was not asked for": {Inbox{}, []Message{Folder{Name: "d"}}},
		"a name that was not asked for":   {Inbox{Sources: []string{"/x/f"}}, []Message{File{Name: "g"}}},
		"contents that were not asked":    {Inbox{Deep: true, Sources: []string{"d"}}, []Message{Folder{Name: ""}}},
		"contents within":                 {Inbox{Deep: true}, []Message{Folder{Name: "d"}, Folder{Name: ""}}},
		"a way up":                        {Inbox{Deep: true}, []Message{Folder{Name: ".."}}},
		"a way down":                      {Inbox{Deep: true}, []Message{Folder{Name: "d"}, File{Name: "a/b"}}},
		"a file without a name":           {Inbox{}, []Message{File{}}},
		"a link without a name":           {Inbox{}, []Message{Link{To: "x"}}},
		"a link to nothing":               {Inbox{}, []Message{Link{Name: "x"}}},
		"a size below nothing":            {Inbox{}, []Message{File{Name: "f", Size: -1}}},
		"leaving too often":               {Inbox{Deep: true}, []Message{Folder{Name: "d"}, Leave{}, Leave{}}},
		"an end within":                   {Inbox{Deep: true}, []Message{Folder{Name: "d"}, End{}}},
		"an end without content":          {Inbox{}, []Message{file, End{}}},
		"anything after the end":          {Inbox{}, []Message{End{}, End{}}},
		"content of nothing":              {Inbox{}, []Message{Data("x")}},
		"no content":                      {Inbox{}, []Message{file, Body{N: 1}, Data{}}},
		"content of another":              {Inbox{}, []Message{file, Body{N: 2}}},
		"content twice":                   {Inbox{}, []Message{file, Body{N: 1}, Done{}, Body{N: 1}}},
		"content within content":          {Inbox{Resume: true}, []Message{file, file, Body{N: 1}, Body{N: 2}}},
		"content from below":              {Inbox{}, []Message{file, Body{N: 1, From: -1}}},
		"content from behind":             {Inbox{}, []Message{file, Body{N: 1, From: 4}}},
		"more than there is":              {Inbox{}, []Message{file, Body{N: 1, From: 1}, Data("ab"), Data("c")}},
		"a name before the content":       {Inbox{}, []Message{file, file}},
		"a folder within a file":          {Inbox{Deep: true}, []Message{file, Body{N: 1}, Folder{Name: "d"}}},
		"an end of nothing":               {Inbox{}, []Message{Done{}}},
		"two reasons":                     {Inbox{}, []Message{file, Body{N: 1}, Done{make([]Problem, 2)}}},
		"an answer":                       {Inbox{}, []Message{Have{}}},
		"a question":                      {Inbox{}, []Message{Ask{}}},
		"elsewhere, nowhere":              {Inbox{}, []Message{Elsewhere{}}},
		"elsewhere, but begun":            {Inbox{}, []Message{file, Elsewhere{[]string{"/x"}}}},
		"elsewhere, and here":             {Inbox{}, []Message{Elsewhere{[]string{"/x"}}, file}},
	} {
		for i, m := range c.said {
			_, err := c.inbox.Take(m)
			if last := i == len(c.said)-1; (err != nil) != last {
				t.Errorf("%s: %T is said as number %d: %v", name, m, i+1, err)
			}
		}
	}
	deep := Inbox{Deep: true}
	for range MaxDepth {
		if _, err := deep.Take(Folder{Name: "d"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := deep.Take(Folder{Name: "d"}); fleet.KindOf(err) != fleet.Exhausted {
		t.Error(err)
	}
	wide := Inbox{Resume: true}
	for range Window {
		if _, err := wide.Take(file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := wide.Take(file); err == nil {
		t.Error("more files wait than the window has")
	}
}

func TestRepliesOutOfTurn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		replies Replies
		files   int
		said    []Message
	}{
		"an answer without a question": {Replies{Resume: true}, 1, []Message{Have{N: 1}, Have{N: 1}}},
		"an answer nobody waits for":   {Replies{}, 1, []Message{Have{N: 1}}},
		"answers in another order":     {Replies{Resume: true}, 2, []Message{Have{N: 2}}},
		"a size below nothing":         {Replies{Resume: true}, 1, []Message{Have{N: 1, Size: -1}}},
		"a failure of nothing":         {Replies{}, 1, []Message{Failed{N: 0}}},
		"a failure of what comes":      {Replies{}, 1, []Message{Failed{N: 2}}},
		"more failures than entries":   {Replies{}, 2, []Message{Failed{N: 1}, Failed{N: 1}, Failed{N: 1}}},
		"an end too early":             {Replies{}, 1, []Message{Finished{}}},
		"anything after a fatal one":   {Replies{}, 1, []Message{Fatal{}, Failed{N: 1}}},
		"what only senders say":        {Replies{}, 1, []Message{Leave{}}},
		"elsewhere, nowhere":           {Replies{}, 1, []Message{Elsewhere{}}},
		"elsewhere, but begun":         {Replies{}, 1, []Message{Failed{N: 1}, Elsewhere{[]string{"/x"}}}},
		"elsewhere, and more":          {Replies{}, 1, []Message{Elsewhere{[]string{"/x"}}, Failed{N: 1}}},
	} {
		for range c.files {
			c.replies.Named(true)
		}
		for i, m := range c.said {
			if last := i == len(c.said)-1; (c.replies.Take(m) != nil) != last {
				t.Errorf("%s: %T as number %d", name, m, i+1)
			}
		}
	}
}

// TestInTurn: whatever tree a sender walks, with files named ahead or not, its receiver takes, and numbers as the sender
// does; and the answers of such a receiver are taken.
func TestInTurn(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		resume := rapid.Bool().Draw(t, "resume")
		inbox, replies := Inbox{Deep: true, Resume: resume}, Replies{Resume: resume}
		var waiting []uint64
		say := func(m Message) uint64 {
			n, err := inbox.Take(m)
			if err != nil {
				t.Fatalf("%#v: %v", m, err)
			}
			return n
		}
		content := func() {
			n := waiting[0]
			waiting = waiting[1:]
			if resume && replies.Take(Have{N: n}) != nil {
				t.Fatal("an answer is not taken")
			}
			say(Body{N: n})
			say(Data("abc"))
			if rapid.Bool().Draw(t, "fails") && replies.Take(Failed{N: n}) != nil {
				t.Fatal("a failure is not taken")
			}
			say(Done{})
		}
		depth := 0
		for range rapid.IntRange(0, 400).Draw(t, "entries") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				if say(Folder{Name: "d"}) != replies.Named(false) {
					t.Fatal("the ends count apart")
				}
				depth++
			case 1:
				if depth > 0 {
					say(Leave{})
					depth--
				}
			case 2:
				n := say(File{Name: "f", Size: 3})
				if n != replies.Named(true) {
					t.Fatal("the ends count apart")
				}
				if waiting = append(waiting, n); !resume || len(waiting) == Window {
					content()
				}
			case 3:
				say(Skipped{})
			}
		}
		for ; depth > 0; depth-- {
			say(Leave{})
		}
		for len(waiting) > 0 {
			content()
		}
		say(End{})
		replies.Ended()
		if replies.Take(Finished{}) != nil {
			t.Fatal("the end is not taken")
		}
	})
}
