package action

import (
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

const (
	// A branch or tag: no option, no refspec, no pattern.
	refName  = fleet.Pattern(`^[A-Za-z0-9_][A-Za-z0-9_./+@-]{0,254}$`)
	commitID = fleet.Pattern(`^[0-9a-fA-F]{7,64}$`)
)

// revision is what getOptions asks for; the zero value is the default branch.
type revision struct {
	ref    string // a branch or tag
	commit string // or a commit's ID
}

// readOptions reads getOptions: "branch:NAME" or "commitID:ID".
func readOptions(text string) (revision, error) {
	var r revision
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "branch":
			r.ref = value
			if !refName.MatchString(value) || strings.Contains(value, "..") || strings.Contains(value, "@{") {
				return revision{}, fleet.Errorf(fleet.Invalid, "getOptions: %q is no branch", value)
			}
		case "commitid":
			r.commit = value
			if !commitID.MatchString(value) {
				return revision{}, fleet.Errorf(fleet.Invalid, "getOptions: %q is no commit ID", value).Hinted("7 to 64 hexadecimal digits")
			}
		default:
			return revision{}, fleet.Errorf(fleet.Invalid, "getOptions knows branch: and commitID:, not %q", key)
		}
	}
	if r.ref != "" && r.commit != "" {
		return revision{}, fleet.Errorf(fleet.Invalid, "getOptions takes a branch or a commitID, not both")
	}
	return r, nil
}

// name returns the revision as one word; HEAD for the default branch.
func (r revision) name() string {
	switch {
	case r.commit != "":
		return r.commit
	case r.ref != "":
		return r.ref
	}
	return "HEAD"
}
