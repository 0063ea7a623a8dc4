package params

import (
	"cmp"
	"slices"
)

// PublicParameter is a parameter that comes with muster, as Systems Manager has those of AWS. Nobody signs or stores it.
type PublicParameter struct {
	Name  string
	Value string
}

// PublicDocument is a built-in document as public parameters show it.
type PublicDocument struct {
	Name   string
	Digest string // of its text
	Schema string // schema version
}

// system is what is public of an operating system: the tool that patches it. The names are the IDs of os-release.
type system struct{ id, family, packages string }

func systems() []system {
	return []system{
		{"almalinux", "rhel", "dnf"}, {"amzn", "fedora", "dnf"}, {"centos", "rhel", "dnf"}, {"debian", "debian", "apt"}, {"fedora", "fedora", "dnf"},
		{"opensuse-leap", "suse", "zypper"}, {"oraclelinux", "rhel", "dnf"}, {"rhel", "rhel", "dnf"}, {"rocky", "rhel", "dnf"}, {"sles", "suse", "zypper"},
		{"ubuntu", "debian", "apt"},
	}
}

// PublicParameters lists, by name, what every fleet can read below PublicPath: the release's version, the built-in
// documents, the operating systems.
func PublicParameters(version string, documents []PublicDocument) []PublicParameter {
	out := []PublicParameter{{PublicPath + "/release/version", version}}
	for _, d := range documents {
		out = append(out, PublicParameter{PublicPath + "/documents/" + d.Name + "/digest", d.Digest}, PublicParameter{PublicPath + "/documents/" + d.Name + "/schema", d.Schema})
	}
	for _, s := range systems() {
		out = append(out, PublicParameter{PublicPath + "/os/" + s.id + "/family", s.family}, PublicParameter{PublicPath + "/os/" + s.id + "/packages", s.packages})
	}
	slices.SortFunc(out, func(a, b PublicParameter) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
