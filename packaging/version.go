package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// version is a release, a candidate for one, or what came some commits after one.
type version struct {
	core   string // 1.2.3
	before string // what makes it earlier than core: rc.1, dev; "" : nothing
	after  string // what makes it later: 5.gabc0123; "" : nothing
}

// String is what muster version says: 1.2.3-rc.1+5.gabc0123.
func (v version) String() string {
	text := v.core
	if v.before != "" {
		text += "-" + v.before
	}
	if v.after != "" {
		text += "+" + v.after
	}
	return text
}

// deb is the version as dpkg sorts it: what follows a tilde comes before, what follows a plus after.
func (v version) deb() string { return v.joined("~", "+") }

// rpm is the version as rpm sorts it.
func (v version) rpm() string { return v.joined("~", "^") }

func (v version) joined(before, after string) string {
	text := v.core
	if v.before != "" {
		text += before + strings.ReplaceAll(v.before, "-", ".")
	}
	if v.after != "" {
		text += after + strings.ReplaceAll(v.after, "-", ".")
	}
	return text
}

// apk is the version as apk sorts it: it knows few words, and numbers alone behind them. A word that it does not know is an
// alpha; of the commits since a release the number counts.
func (v version) apk() string {
	text := v.core
	if v.before != "" {
		word, number, _ := strings.Cut(v.before, ".")
		switch word {
		case "alpha", "beta", "pre", "rc":
		default:
			word = "alpha"
		}
		text += "_" + word + leadingDigits(number)
	}
	if count := leadingDigits(v.after); count != "" {
		text += "_p" + count
	}
	return text
}

func leadingDigits(text string) string {
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		return text
	}
	return text[:end]
}

// parseVersion reads what people and git describe write: v1.2.3, 1.2.3-rc.1, v1.2.3-5-gabc0123.
func parseVersion(text string) (version, error) {
	form := regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([A-Za-z][0-9A-Za-z.]*))?(?:-(\d+)-(g[0-9a-f]+))?(?:\+([0-9A-Za-z.]+))?$`)
	clean, dirty := strings.CutSuffix(text, "-dirty")
	found := form.FindStringSubmatch(clean)
	if found == nil || (found[3] != "" && found[5] != "") {
		return version{}, fmt.Errorf("%q is no version such as 1.2.3, 1.2.3-rc.1 or 1.2.3+4.gabc0123", text)
	}
	v := version{core: found[1], before: found[2], after: found[5]}
	if found[3] != "" {
		v.after = found[3] + "." + found[4]
	}
	if dirty {
		v.after = strings.TrimPrefix(v.after+".dirty", ".")
	}
	return v, nil
}

// readVersion returns the version as told, else as the newest tag says, else one before all others with the number of
// commits and the newest one's name.
func readVersion(ctx context.Context, top, told string) (version, error) {
	if told != "" {
		return parseVersion(told)
	}
	if tag, err := output(ctx, top, "git", "describe", "--tags", "--match", "v[0-9]*", "--dirty"); err == nil {
		return parseVersion(tag)
	}
	count, err := output(ctx, top, "git", "rev-list", "--count", "HEAD")
	if err != nil {
		return version{}, fmt.Errorf("no version: give --version, or build in a git checkout: %w", err)
	}
	commit, err := output(ctx, top, "git", "rev-parse", "--short=12", "HEAD")
	if err != nil {
		return version{}, err
	}
	return version{core: "0.0.0", before: "dev", after: count + ".g" + commit}, nil
}
