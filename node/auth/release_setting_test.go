package auth

import (
	"slices"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestReleaseKeysSetting(t *testing.T) {
	text := func(name string) string { return FormatReleaseKey(key(name).Public()) }
	a, b, c := text("a"), text("b"), text("c")
	for value, want := range map[string]struct {
		need int
		keys string
	}{
		a:                               {1, "a"},
		a + "," + b:                     {1, "a b"},
		"2 of " + a + "," + b + "," + c: {2, "a b c"},
		"1 of " + a:                     {1, "a"},
	} {
		got, err := ParseReleaseKeys(value)
		if err != nil || got.Need != want.need || len(got.Keys) != len(strings.Fields(want.keys)) {
			t.Errorf("%q: %+v, %v", value, got, err)
			continue
		}
		for i, name := range strings.Fields(want.keys) {
			if !got.Keys[i].Equal(key(name).Public()) {
				t.Errorf("%q: key %d is another", value, i)
			}
		}
		if err := CheckSetting(SettingReleaseKeys, value); err != nil {
			t.Error(err)
		}
	}
	var nine []string
	for _, name := range strings.Fields("a b c d e f g h i") {
		nine = append(nine, text(name))
	}
	for _, value := range []string{
		"x", a[1:], strings.ToUpper(a), a + " ", a + ",", a + "," + a, "2 of " + a, "0 of " + a, "-1 of " + a, "two of " + a + "," + b,
		"2 of", "rk1" + strings.Repeat("a", 51), "rk1" + strings.Repeat("7", 52), strings.Join(nine, ","), fleet.ID(key("a").Public()).Text(),
	} {
		if err := CheckSetting(SettingReleaseKeys, value); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%q: %v", value, err)
		}
	}
	if _, trusted := (Settings{}).ReleaseKeys(); trusted {
		t.Error("a fleet that has said nothing takes releases")
	}
	if !slices.IsSorted(SettingNames) {
		t.Error("the settings are not sorted")
	}
}

// FuzzReleaseKeys: what is taken is written the same again, and asks for no more keys than it names, nor for none.
func FuzzReleaseKeys(f *testing.F) {
	a, b := FormatReleaseKey(key("a").Public()), FormatReleaseKey(key("b").Public())
	f.Add(a)
	f.Add("2 of " + a + "," + b)
	f.Add("2 of rk1,rk1")
	f.Fuzz(func(t *testing.T, value string) {
		got, err := ParseReleaseKeys(value)
		if err != nil {
			return
		}
		if got.Need < 1 || got.Need > len(got.Keys) || len(got.Keys) > MaxReleaseKeys {
			t.Fatalf("%q: %+v", value, got)
		}
		for _, k := range got.Keys {
			if !strings.Contains(value, FormatReleaseKey(k)) {
				t.Fatalf("%q names no %s", value, FormatReleaseKey(k))
			}
		}
	})
}

// Whoever may set how long output is kept does not so say whose programs all hosts run, and the other way round.
func TestReleaseKeysNeedAnActionOfTheirOwn(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", "ops"))
	w.charter(CharterPutOperator, operator("rita", "release"))
	w.charter(CharterPutPolicy, PutPolicy{FirstPolicy + `
		permit (principal in Team::"ops", action == Action::"setting.put", resource is Fleet);
		permit (principal in Team::"release", action == Action::"release.trust", resource is Fleet);`})
	keys := FormatReleaseKey(key("maker").Public())
	w.must(ActSetting, w.setting("bob", SettingOutputTo, "syslog"))
	w.must(ActSetting, w.setting("rita", SettingReleaseKeys, keys))
	refused(t, w.apply(ActSetting, w.setting("bob", SettingReleaseKeys, "")), fleet.Denied, "may not release.trust")
	refused(t, w.apply(ActSetting, w.setting("rita", SettingOutputTo, "")), fleet.Denied, "may not setting.put")
	w.must(ActSetting, w.setting("alice", SettingReleaseKeys, ""))
}
