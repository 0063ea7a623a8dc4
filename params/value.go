package params

import (
	"bytes"
	"regexp"
	"unicode/utf8"

	"github.com/muster-fleet/muster/node/fleet"
)

func errEmpty(name string) error {
	return fleet.Errorf(fleet.Invalid, "parameter %s: an empty value (ValidationException)", name)
}

// CheckValue reports why a value cannot be that of p, or nil. Its writer asks; of a secret nobody else can. The value
// never stands in an error.
func CheckValue(p Put, value []byte) error {
	if err := p.checkText(value); err != nil {
		return err
	}
	if len(value) > p.Tier.MaxSize() {
		return fleet.Errorf(fleet.Invalid, "parameter %s: a value of %d bytes; tier %s takes %d (ValidationException)", p.Name, len(value), p.Tier, p.Tier.MaxSize())
	}
	if p.DataType == DataImage && !fleet.Pattern(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`).MatchString(string(value)) {
		return fleet.Errorf(fleet.Invalid, "parameter %s: the value is no ID of an image, ami- and 8 or 17 of 0-9 a-f (ValidationException)", p.Name)
	}
	if p.Pattern == "" {
		return nil
	}
	pattern, err := regexp.Compile(p.Pattern)
	if err != nil {
		return fleet.Errorf(fleet.Invalid, "parameter %s: pattern: %w (InvalidAllowedPatternException)", p.Name, err)
	}
	if !pattern.Match(value) {
		return fleet.Errorf(fleet.Invalid, "parameter %s: the value does not match the pattern %s (ParameterPatternMismatchException)", p.Name, p.Pattern)
	}
	return nil
}

// checkText judges what holds for every value, on every version of this program.
func (p Put) checkText(value []byte) error {
	switch {
	case len(value) == 0:
		return errEmpty(p.Name)
	case bytes.Contains(value, []byte("{{")):
		return fleet.Errorf(fleet.Invalid, "parameter %s: a value cannot have {{ in it; references are not followed (ValidationException)", p.Name)
	case !utf8.Valid(value) || bytes.IndexByte(value, 0) >= 0:
		return fleet.Errorf(fleet.Invalid, "parameter %s: the value is no text in UTF-8 (ValidationException)", p.Name).Hinted("base64 FILE | muster param put %s --stdin", p.Name)
	}
	return nil
}

// Items returns the items of a StringList: what stands between commas. There is no way to have a comma in an item.
func Items(value []byte) [][]byte { return bytes.Split(value, []byte(",")) }
