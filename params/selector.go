package params

import (
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// ParseSelector reads NAME, NAME:VERSION or NAME:LABEL. Errors are Invalid, and NotFound for what can name nothing.
func ParseSelector(text string) (Selector, error) {
	head, suffix, has := strings.Cut(strings.TrimSpace(text), ":")
	if strings.Contains(suffix, ":") {
		return Selector{}, fleet.Errorf(fleet.NotFound, "parameter %s not found: one name has one version or label (ParameterNotFound)", text)
	}
	name, err := CanonicalName(head)
	if err != nil {
		return Selector{}, err
	}
	s := Selector{Name: name}
	switch {
	case !has:
		return s, nil
	case suffix == "":
		return Selector{}, fleet.Errorf(fleet.Invalid, "parameter %q: a version or label belongs behind the colon (ValidationException)", text)
	case isDigit(suffix[0]):
		version, err := strconv.ParseUint(suffix, 10, 32)
		if err != nil || version == 0 || suffix[0] == '0' {
			return Selector{}, fleet.Errorf(fleet.NotFound, "parameter %s has no version %q (ParameterVersionNotFound)", name, suffix)
		}
		s.Version = uint32(version)
		return s, nil
	}
	s.Label = suffix
	return s, CheckLabel(suffix)
}

// Check reports why no parameter can be asked for so, or nil.
func (s Selector) Check() error {
	name, err := CanonicalName(s.Name)
	switch {
	case err != nil:
		return err
	case name != s.Name:
		return fleet.Errorf(fleet.Invalid, "parameter %q is not in its one spelling, %s", s.Name, name)
	case s.Version != 0 && s.Label != "":
		return fleet.Errorf(fleet.NotFound, "parameter %s not found: one name has one version or label (ParameterNotFound)", s.Name)
	case s.Label != "":
		return CheckLabel(s.Label)
	}
	return nil
}

// String returns the text that ParseSelector reads.
func (s Selector) String() string { return s.Name + s.Suffix() }

// Suffix returns "", ":VERSION" or ":LABEL".
func (s Selector) Suffix() string {
	switch {
	case s.Version != 0:
		return ":" + strconv.FormatUint(uint64(s.Version), 10)
	case s.Label != "":
		return ":" + s.Label
	}
	return ""
}
