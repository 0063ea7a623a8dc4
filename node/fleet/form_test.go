package fleet

import (
	"regexp"
	"testing"
)

var (
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)
	tagKeyForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_./:-]{0,127}$`)
)

// The forms of names and keys of tags are what the regular expressions say.
func FuzzForms(f *testing.F) {
	long := "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz."
	for _, s := range []string{"", "a", "web-1.lab", "-a", ".a", "A", "a:b/c_d", "é", "a\n", "a\x80", long, long + "x", long + long + "ab", long + long + "abc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := isName(s), nameForm.MatchString(s); got != want {
			t.Errorf("name %q: %v", s, got)
		}
		if got, want := isTagKey(s), tagKeyForm.MatchString(s); got != want {
			t.Errorf("key %q: %v", s, got)
		}
	})
}
