package params

import (
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Limits of names, as Systems Manager has them.
const (
	MaxName  = 1011 // characters
	MaxDepth = 15   // levels
	MaxLabel = 100  // characters
)

// PublicPath is where public parameters are. They come with the binary: nobody writes below it.
const PublicPath = "/muster/public"

// CanonicalName returns the one spelling of a parameter's name: without spaces around it, and without the slash before a
// name of one level. Errors are Invalid.
func CanonicalName(text string) (string, error) {
	name := strings.TrimSpace(text)
	switch {
	case name == "":
		return "", fleet.Errorf(fleet.Invalid, "a parameter needs a name (ValidationException)")
	case len(name) > MaxName:
		return "", fleet.Errorf(fleet.Invalid, "a parameter's name of %d characters; at most %d (ValidationException)", len(name), MaxName)
	}
	if err := checkCharacters(name); err != nil {
		return "", err
	}
	levels := strings.Split(strings.TrimPrefix(name, "/"), "/")
	switch {
	case len(levels) > 1 && name[0] != '/':
		return "", fleet.Errorf(fleet.Invalid, "parameter %q has levels, and must begin with a slash (ValidationException)", name).Hinted("write /%s", name)
	case len(levels) > MaxDepth:
		return "", fleet.Errorf(fleet.Invalid, "parameter %q has %d levels; at most %d (HierarchyLevelLimitExceededException)", name, len(levels), MaxDepth)
	case reserved(levels[0]):
		return "", fleet.Errorf(fleet.Invalid, "parameter %q: no name begins with aws or ssm (ValidationException)", name)
	}
	for _, level := range levels {
		if level == "" {
			return "", fleet.Errorf(fleet.Invalid, "parameter %q has a level without a name (ValidationException)", name)
		}
	}
	if len(levels) == 1 {
		return levels[0], nil
	}
	return name, nil
}

// CheckPath returns the one spelling of a path below which parameters are: "/", or a slash before each level and none at the
// end. Errors are Invalid.
func CheckPath(text string) (string, error) {
	path := strings.TrimSpace(text)
	switch {
	case path == "" || path[0] != '/':
		return "", fleet.Errorf(fleet.Invalid, "path %q must begin with a slash (ValidationException)", path).Hinted("the path of all parameters is /")
	case len(path) > MaxName:
		return "", fleet.Errorf(fleet.Invalid, "a path of %d characters; at most %d (ValidationException)", len(path), MaxName)
	case path == "/":
		return path, nil
	}
	if err := checkCharacters(path); err != nil {
		return "", err
	}
	path = strings.TrimSuffix(path, "/")
	levels := strings.Split(path[min(1, len(path)):], "/")
	if len(levels) > MaxDepth {
		return "", fleet.Errorf(fleet.Invalid, "path %q has %d levels; at most %d (HierarchyLevelLimitExceededException)", path, len(levels), MaxDepth)
	}
	for _, level := range levels {
		if level == "" {
			return "", fleet.Errorf(fleet.Invalid, "path %q has a level without a name (ValidationException)", text)
		}
	}
	return path, nil
}

func checkCharacters(name string) error {
	for i := range len(name) {
		if c := name[i]; !isWord(c) && c != '/' {
			return fleet.Errorf(fleet.Invalid, "parameter %q: only letters, digits and _ . - / may be in a name (ValidationException)", name)
		}
	}
	return nil
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '_' || c == '.' || c == '-'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// reserved reports whether a word begins with aws or ssm, in any case: Systems Manager keeps those for itself, and what is
// written here should be good there.
func reserved(word string) bool {
	if len(word) < 3 {
		return false
	}
	head := word[:3]
	return strings.EqualFold(head, "aws") || strings.EqualFold(head, "ssm")
}

// CheckLabel reports why text cannot be a label, or nil. Systems Manager lists such labels as InvalidLabels.
func CheckLabel(text string) error {
	ok := text != "" && len(text) <= MaxLabel && !isDigit(text[0]) && !reserved(text)
	for i := range len(text) {
		ok = ok && isWord(text[i])
	}
	if !ok {
		return fleet.Errorf(fleet.Invalid, "%q is not a label: 1 to %d of letters, digits and _ . -, no digit first, and not aws or ssm (InvalidLabels)", text, MaxLabel)
	}
	return nil
}

// FullPath returns a canonical name with its slash, as it stands in the tree of all names.
func FullPath(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return "/" + name
}

// Below reports whether the canonical name lies below a path that CheckPath returned: directly, or, where recursive, at any
// depth.
func Below(path, name string, recursive bool) bool {
	rest, ok := strings.CutPrefix(FullPath(name), strings.TrimSuffix(path, "/")+"/")
	return ok && rest != "" && (recursive || !strings.Contains(rest, "/"))
}

// Public reports whether the canonical name is that of a public parameter, or of the path of all of them.
func Public(name string) bool {
	return name == PublicPath || strings.HasPrefix(name, PublicPath+"/")
}
