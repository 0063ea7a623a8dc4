package params

import (
	"github.com/muster-fleet/muster/node/fleet"
)

// Bounds of values in bytes. Systems Manager has 4 KB and 8 KB; advanced ones are larger here, so that certificates with
// their chains, and small configuration files, fit.
const (
	MaxStandard = 4 << 10
	MaxAdvanced = 64 << 10
)

// ParseType reads the name of a type.
func ParseType(text string) (Type, error) {
	for _, t := range []Type{String, StringList, SecureString} {
		if t.String() == text {
			return t, nil
		}
	}
	return 0, fleet.Errorf(fleet.Invalid, "%q is no type: String, StringList or SecureString (UnsupportedParameterType)", text)
}

// String returns the type's name, "" for what is none.
func (t Type) String() string {
	switch t {
	case String:
		return "String"
	case StringList:
		return "StringList"
	case SecureString:
		return "SecureString"
	}
	return ""
}

// IntelligentTiering asks for the lowest tier that will do.
const IntelligentTiering = "Intelligent-Tiering"

// ParseTier reads the name of a tier; IntelligentTiering is none, but a way to choose one (TierOf).
func ParseTier(text string) (Tier, error) {
	for _, t := range []Tier{Standard, Advanced} {
		if t.String() == text {
			return t, nil
		}
	}
	return 0, fleet.Errorf(fleet.Invalid, "%q is no tier: Standard, Advanced or %s (ValidationException)", text, IntelligentTiering)
}

// String returns the tier's name, "" for what is none.
func (t Tier) String() string {
	switch t {
	case Standard:
		return "Standard"
	case Advanced:
		return "Advanced"
	}
	return ""
}

// MaxSize returns how many bytes a value of the tier may have.
func (t Tier) MaxSize() int {
	if t == Advanced {
		return MaxAdvanced
	}
	return MaxStandard
}

// TierOf chooses the tier of a version: asked is "", a tier's name or IntelligentTiering; before is the parameter's tier, 0
// for a new one; size is that of the value in bytes, policies how many it has. There is no way down. Where the tier rises,
// who calls says so.
func TierOf(asked string, before Tier, size, policies int) (Tier, error) {
	if size > MaxAdvanced {
		return 0, fleet.Errorf(fleet.Invalid, "a value of %d bytes; at most %d (ValidationException)", size, MaxAdvanced)
	}
	lowest := max(before, Standard)
	if size > MaxStandard || policies > 0 {
		lowest = Advanced
	}
	if asked == "" || asked == IntelligentTiering {
		return lowest, nil
	}
	tier, err := ParseTier(asked)
	switch {
	case err != nil:
		return 0, err
	case tier >= lowest:
		return tier, nil
	case before == Advanced:
		return 0, fleet.Errorf(fleet.Invalid, "the parameter is in tier Advanced, and there is no way down (ValidationException)").
			Hinted("leave out --tier; or delete the parameter and make it anew, which ends its history")
	case policies > 0:
		return 0, fleet.Errorf(fleet.Invalid, "policies need tier Advanced (ValidationException)").Hinted("--tier Advanced")
	}
	return 0, fleet.Errorf(fleet.Invalid, "a value of %d bytes; tier Standard takes %d (ValidationException)", size, MaxStandard).Hinted("--tier Advanced")
}
