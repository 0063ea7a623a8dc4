package copy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/session/copy/talk"
)

// ground is a folder with what may be copied (in), what may not (out), and links between them. Paths begin in it.
func ground(t *testing.T) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"in/sub", "out/deep", "people"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plant(t, root, map[string]string{"in/f": "mine", "in/sub/g": "mine too", "out/secret": "not yours", "out/deep/secret": "not yours", "people/h": "home"})
	for name, to := range map[string]string{
		"in/link": root + "/out/secret", "in/dir": root + "/out", "in/up": "..", "in/same": "f", "way": "in", "people/away": "../out",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Nothing is read but what was signed, whatever is asked for and wherever links or .. lead.
func TestNothingIsReadOutOfBounds(t *testing.T) {
	t.Parallel()
	root := ground(t)
	for name, c := range map[string]struct {
		signed []string
		asked  []string
		leads  string // where it says that it leads
		says   string // else what it says
		got    string // what arrives, if anything
	}{
		"as signed":              {[]string{"/in/f"}, []string{"/in/f"}, "", "", "f"},
		"written otherwise":      {[]string{"/in/f"}, []string{"/in/./sub/..//f"}, "", "", "f"},
		"beside what was signed": {[]string{"/in/f"}, []string{"/out/secret"}, "", "was not signed for", ""},
		"below what was signed":  {[]string{"/in/"}, []string{"/in/f"}, "", "was not signed for", ""},
		"a folder":               {[]string{"/in/sub"}, []string{"/in/sub"}, "", "", "sub/ sub/g"},
		"a link out":             {[]string{"/in/link"}, []string{"/in/link"}, "/out/secret", "", ""},
		"a link out, signed":     {[]string{"/in/link", "/out/secret"}, []string{"/in/link"}, "", "", "link"},
		"a link within":          {[]string{"/in/same"}, []string{"/in/same"}, "/in/f", "", ""},
		"by a link to a folder":  {[]string{"/in/dir/secret"}, []string{"/in/dir/secret"}, "/out/secret", "", ""},
		"up by a link":           {[]string{"/in/up/out/secret"}, []string{"/in/up/out/secret"}, "/out/secret", "", ""},
		"up behind a link":       {[]string{"/in/f"}, []string{"/in/dir/../f"}, "", "there is no", ""}, // of the folder that the link leads to
		"a pattern":              {[]string{"/in/?"}, []string{"/in/?"}, "", "", "f"},
		"a pattern of links":     {[]string{"/in/l*"}, []string{"/in/l*"}, "/out/secret", "", ""},
		"a pattern by a link":    {[]string{"/way/?"}, []string{"/way/?"}, "/in/?", "", ""},
		"a pattern in between":   {[]string{"/*/secret"}, []string{"/*/secret"}, "", "", "secret"},
		"patterns":               {[]string{"/i*/sub/?"}, []string{"/i*/sub/?"}, "", "", "g"},
		"patterns and a link":    {[]string{"/in/d*/*"}, []string{"/in/d*/*"}, "/out/*", "", ""},
		"and one, signed":        {[]string{"/in/d*/*t", "/out/*t"}, []string{"/in/d*/*t"}, "", "", "secret"},
		"and two":                {[]string{"/*/d*/*/*"}, []string{"/*/d*/*/*"}, "/out/*/*", "", ""},
		"and ..":                 {[]string{"/in/*"}, []string{"/in/d*/../*"}, "/*", "", ""},
		"another pattern":        {[]string{"/in/f"}, []string{"/in/*"}, "", "was not signed for", ""},
		"home":                   {[]string{"~/h"}, []string{"h"}, "", "", "h"},
		"home, by a link":        {[]string{"~/away/secret"}, []string{"~/away/secret"}, "/out/secret", "", ""},
		"a link in a tree":       {[]string{"/in/"}, []string{"/in/"}, "", "", "in/ in/dir in/f in/link in/same in/sub/ in/sub/g in/up"},
		"nothing is there":       {[]string{"/in/none"}, []string{"/in/none"}, "", "there is no", ""},
	} {
		at := func(paths []string) []string {
			out := append([]string(nil), paths...)
			for i, p := range out {
				if strings.HasPrefix(p, "/") {
					out[i] = root + p
				}
			}
			return out
		}
		near := t.TempDir()
		p, h := startFarFor(t, root+"/people", nil, talk.Grant{Deep: true, Paths: at(c.signed)}), &heard{}
		_, err := Get(t.Context(), p, Order{Sources: at(c.asked), To: near, Deep: true, Watch: h.watch()})
		p.wait(t)
		said := strings.Join(h.troubles, "\n")
		if err != nil {
			said += err.Error()
		}
		var arrived []string
		_ = filepath.WalkDir(near, func(path string, d os.DirEntry, _ error) error {
			if name := strings.TrimPrefix(path, near+"/"); path != near {
				if d.IsDir() {
					name += "/"
				}
				arrived = append(arrived, name)
			}
			return nil
		})
		if got := strings.Join(arrived, " "); got != c.got || !strings.Contains(said, c.says) || c.says == "" && c.leads == "" && said != "" {
			t.Errorf("%s: %q arrives, and it says %q", name, got, said)
		}
		to, leads := errors.AsType[*Elsewhere](err)
		if leads != (c.leads != "") || leads && (len(to.Paths) != 1 || to.Paths[0] != root+c.leads) {
			t.Errorf("%s: leads to %+v (%v)", name, to, err)
		}
	}
}

// Not so much as the names of what lies behind a link are told to who was not permitted to look there, also if he made the link.
func TestPatternsTellNoNamesOutOfBounds(t *testing.T) {
	t.Parallel()
	root := ground(t)
	for pattern, want := range map[string]string{
		"/in/d*/*": "/out/*", "/in/d*/*/*": "/out/*/*", "/in/u*/o*/*": "/o*/*", "/in/*/sec*": "/out/sec* /sec*", "/in/s*/*": "",
	} {
		b := &bounds{Grant: talk.Grant{Paths: []string{root + pattern}}}
		var got []string
		for _, at := range b.elsewhere([]string{root + pattern}) {
			got = append(got, strings.TrimPrefix(at, root))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: leads to %q, want %q", pattern, got, want)
		}
	}
}

// Nothing is written but where that was signed.
func TestNothingIsWrittenOutOfBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		signed []string
		asked  string
		leads  string
		says   string
		lands  string // where it lies then
	}{
		"into a folder":          {[]string{"/in/"}, "/in/", "", "", "/in/new"},
		"into it, no slash":      {[]string{"/in"}, "/in", "", "", "/in/new"},
		"under another name":     {[]string{"/in/other"}, "/in/other", "", "", "/in/other"},
		"beside":                 {[]string{"/in/"}, "/out/", "", "was not signed for", ""},
		"out by ..":              {[]string{"/in/"}, "/in/../out/", "", "was not signed for", ""},
		"into a folder by link":  {[]string{"/in/dir"}, "/in/dir", "/out", "", ""},
		"by link, signed":        {[]string{"/in/dir", "/out"}, "/in/dir", "", "", "/out/new"},
		"through a link":         {[]string{"/in/dir/deep/"}, "/in/dir/deep/", "/out/deep", "", ""},
		"a new name by a link":   {[]string{"/in/dir/x"}, "/in/dir/x", "/out/x", "", ""},
		"over a link":            {[]string{"/in/link"}, "/in/link", "", "", "/in/link"}, // the link is replaced
		"up behind a link":       {[]string{"/in/"}, "/in/dir/../", "", "", "/in/new"},   // as it was signed
		"up behind one, as such": {[]string{"/in/"}, "/in/sub/../", "", "", "/in/new"},
		"home":                   {[]string{"~/"}, "", "", "", "/people/new"},
	} {
		root := ground(t)
		at := func(p string) string {
			if strings.HasPrefix(p, "/") {
				return root + p
			}
			return p
		}
		var signed []string
		for _, p := range c.signed {
			signed = append(signed, at(p))
		}
		from := t.TempDir()
		plant(t, from, map[string]string{"new": "new"})
		p, h := startFarFor(t, root+"/people", nil, talk.Grant{Put: true, Paths: signed}), &heard{}
		_, err := Put(t.Context(), p, Order{Sources: []string{from + "/new"}, To: at(c.asked), Watch: h.watch()})
		p.wait(t)
		if (err == nil) != (c.lands != "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		to, leads := errors.AsType[*Elsewhere](err)
		if leads != (c.leads != "") || leads && to.Paths[0] != root+c.leads {
			t.Errorf("%s: leads to %+v (%v)", name, to, err)
		}
		found := ""
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, _ error) error {
			if raw, err := os.ReadFile(path); err == nil && d.Type().IsRegular() && string(raw) == "new" {
				found += strings.TrimPrefix(path, root)
			}
			return nil
		})
		if found != c.lands {
			t.Errorf("%s: lies at %q", name, found)
		}
		if raw, err := os.ReadFile(root + "/out/secret"); err != nil || string(raw) != "not yours" {
			t.Errorf("%s: %q %v", name, raw, err)
		}
	}
}

// An account without a home has none at /, where its processes begin.
func TestNoHomeIsNotTheRoot(t *testing.T) {
	for name, home := range map[string]string{"gone": "/no/such/home", "none": "", "elsewhere": t.TempDir()} {
		t.Setenv("HOME", home)
		t.Chdir("/")
		if b, err := boundsOf(talk.Grant{Paths: []string{"~/"}}); err == nil || fleet.KindOf(err) != fleet.NotFound {
			t.Errorf("%s: %+v %v", name, b, err)
		}
	}
}

// A far end that nobody told what it may do does nothing, and what was signed for reading does not write.
func TestFarEndsKeepToTheirWord(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		g    talk.Grant
		ask  talk.Ask
		says string
	}{
		"told nothing":       {talk.Grant{}, talk.Ask{Put: true, Paths: []string{"x"}}, "nobody says"},
		"to write, reads":    {talk.Grant{Put: true, Paths: []string{"/"}}, talk.Ask{Paths: []string{"/"}}, "not to read"},
		"to read, writes":    {talk.Grant{Paths: []string{"/"}}, talk.Ask{Put: true, Paths: []string{"/"}}, "not to write"},
		"files, and folders": {talk.Grant{Paths: []string{"/"}}, talk.Ask{Deep: true, Paths: []string{"/"}}, "not for folders"},
		"one, and another":   {talk.Grant{Paths: []string{"/tmp/"}}, talk.Ask{Paths: []string{"/tmp/", "/etc/"}}, "not signed for /etc/"},
	} {
		p := startFarFor(t, t.TempDir(), nil, c.g)
		l := newLine(p, p)
		c.ask.Version = talk.Version
		if err := l.now(c.ask); err != nil {
			t.Fatal(err)
		}
		m, err := l.hear()
		if fatal, ok := m.(talk.Fatal); !ok || !strings.Contains(fatal.Problem.What, c.says) || fatal.Problem.Error().Kind != fleet.Denied {
			t.Errorf("%s: %#v, %v", name, m, err)
		}
		if p.wait(t) != 1 {
			t.Errorf("%s: it is content", name)
		}
	}
}
