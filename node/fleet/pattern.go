package fleet

import "regexp"

// Pattern is a regular expression (RE2) that costs nothing until it is used: every run begins with a process of this
// binary, and whatever is compiled when it starts is compiled for each of them.
type Pattern string

// MatchString reports whether the pattern is found in s.
func (p Pattern) MatchString(s string) bool { return regexp.MustCompile(string(p)).MatchString(s) }

// FindStringSubmatch returns what the pattern and its groups match in s, or nil.
func (p Pattern) FindStringSubmatch(s string) []string {
	return regexp.MustCompile(string(p)).FindStringSubmatch(s)
}
