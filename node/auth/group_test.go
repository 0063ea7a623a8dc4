package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func (w *town) group(op, name, target string) []byte {
	return w.groupAt(op, name, target, w.record.Act)
}

func (w *town) groupAt(op, name, target string, act uint64) []byte {
	h := w.header()
	h.Act = act
	return wire.Marshal(key(op).Sign(ForGroup, w.fleetID(), GroupChange{Header: h, Name: name, Target: target}))
}

func (w *town) setting(op, name, value string) []byte {
	return wire.Marshal(key(op).Sign(ForSetting, w.fleetID(), SettingChange{Header: w.header(), Name: name, Value: value}))
}

func TestGroups(t *testing.T) {
	w := newTown(t)
	w.must(ActGroup, w.group("alice", "web", "tag.role=web"))
	old := w.record
	w.must(ActGroup, w.group("alice", "canary", "web01,web02"))
	w.must(ActGroup, w.group("alice", "web", "tag.role=web and not web13"))
	g, ok := w.record.Groups.Get("web")
	if !ok || g.Target != "tag.role=web and not web13" || g.By != "alice" || g.Changed != w.now || g.Act != w.record.Act {
		t.Errorf("%+v", g)
	}
	if all := w.record.Groups.All(); len(all) != 2 || all[0].Name != "canary" || all[1].Name != "web" || w.record.Groups.Len() != 2 {
		t.Errorf("%+v", all)
	}
	if g, _ := old.Groups.Get("web"); g.Target != "tag.role=web" || old.Groups.Len() != 1 {
		t.Error("an old record changed")
	}
	if target, ok := w.record.Groups.Lookup("canary"); !ok || target.String() != "web01,web02" {
		t.Error("the group does not resolve")
	}
	w.must(ActGroup, w.group("alice", "web", ""))
	if _, ok := w.record.Groups.Get("web"); ok || w.record.Groups.Len() != 1 {
		t.Error("a deleted group is there")
	}
	if _, ok := w.record.Groups.Lookup("web"); ok {
		t.Error("a deleted group resolves")
	}
	refused(t, w.apply(ActGroup, w.group("alice", "web", "")), fleet.NotFound, "no group @web")
	w.must(ActGroup, w.group("alice", "web", "*"))
}

func TestGroupRefusals(t *testing.T) {
	w := newTown(t)
	w.charter(CharterPutOperator, operator("bob", "web"))
	for _, c := range []struct {
		data []byte
		kind fleet.Kind
		says string
	}{
		{w.group("bob", "web", "tag.role=web"), fleet.Denied, "may not group.put"},
		{w.group("mallory", "web", "tag.role=web"), fleet.Denied, "no operator"},
		{w.group("alice", "Web", "tag.role=web"), fleet.Invalid, "not a name"},
		{w.group("alice", "web", "(("), fleet.Invalid, ""},
		{w.group("alice", "web", "tag.role = web"), fleet.Invalid, "canonical"},
		{w.group("alice", "web", "@canary"), fleet.Invalid, "plain expressions"},
		{w.group("alice", "web", "web01 and not @canary"), fleet.Invalid, "uses group @canary"},
		{w.groupAt("alice", "web", "web01", w.record.Act+1), fleet.Conflict, "signed at act"},
		{w.setting("alice", SettingOutputTo, "syslog"), fleet.Denied, "does not hold"},
		{nil, fleet.Invalid, "malformed"},
	} {
		refused(t, w.apply(ActGroup, c.data), c.kind, c.says)
	}
	if err := w.apply(ActGroup, append(w.group("alice", "web", "web01"), make([]byte, fleet.MaxTarget+1<<10)...)); fleet.KindOf(err) != fleet.Exhausted {
		t.Errorf("a huge act: %v", err)
	}
}

// The longest name and the longest target, with everything that is signed around them, fit an act.
func TestLargestGroupFits(t *testing.T) {
	w := newTown(t)
	target := strings.Repeat("x", 63)
	for len(target)+64 < fleet.MaxTarget {
		target += "," + strings.Repeat("x", 57) + fmt.Sprintf("%06d", len(target))
	}
	parsed, err := fleet.ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	w.must(ActGroup, w.group("alice", strings.Repeat("n", 63), parsed.String()))
	w.must(ActSetting, w.setting("alice", SettingOutputTo, "/"+strings.Repeat("x", MaxOutputTo-1)))
}

// What an operator signed once cannot be put again after it was changed or deleted, however long ago that was.
func TestOldGroupsDoNotComeBack(t *testing.T) {
	w := newTown(t)
	first := w.group("alice", "web", "web01")
	w.must(ActGroup, first)
	refused(t, w.apply(ActGroup, first), fleet.Conflict, "was changed at act")
	stale := w.group("alice", "web", "web03")
	w.must(ActGroup, w.group("alice", "web", "web02"))
	refused(t, w.apply(ActGroup, stale), fleet.Conflict, "was changed at act")
	w.must(ActGroup, w.group("alice", "web", ""))
	refused(t, w.apply(ActGroup, first), fleet.Conflict, "was changed at act")
	for i := range MaxGroups { // until its deletion is forgotten
		w.record.Groups = must(w.record.Groups.put(GroupChange{Header: Header{Act: w.record.Act}, Name: fmt.Sprint("g", i), Target: "*"}, Group{Name: fmt.Sprint("g", i), Target: "*", Act: w.record.Act}))
		w.record.Groups = must(w.record.Groups.put(GroupChange{Header: Header{Act: w.record.Act}, Name: fmt.Sprint("g", i)}, Group{Name: fmt.Sprint("g", i), Act: w.record.Act + 1 + uint64(i)}))
	}
	if i, ok := w.record.Groups.at("web"); ok {
		t.Fatalf("the deletion is still remembered at %d", i)
	}
	refused(t, w.apply(ActGroup, first), fleet.Conflict, "was changed at act")
	if _, err := w.record.Groups.put(GroupChange{Header: Header{Act: w.record.Act}, Name: "new", Target: "*"}, Group{Name: "new", Target: "*"}); err != nil {
		t.Errorf("who has seen all deletions is refused: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestGroupsAreBounded(t *testing.T) {
	w := newTown(t)
	for i := range MaxGroups {
		name := fmt.Sprint("g", i)
		w.record.Groups = must(w.record.Groups.put(GroupChange{Name: name, Target: "*"}, Group{Name: name, Target: "*"}))
	}
	refused(t, w.apply(ActGroup, w.group("alice", "more", "*")), fleet.Exhausted, "the limit")
	w.must(ActGroup, w.group("alice", "g0", "web01")) // a change of one needs no room
	w.must(ActGroup, w.group("alice", "g0", ""))
	w.must(ActGroup, w.group("alice", "more", "*"))
}

// Whatever is put and deleted, groups are what a map would say, sorted, and bounded.
func TestGroupsAreAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g Groups
		want := map[string]string{}
		act := uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				name, target := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"), rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "target")
				seen := act - rapid.Uint64Range(0, min(act, 3)).Draw(t, "behind")
				last := g.changed(name)
				next, err := g.put(GroupChange{Header: Header{Act: seen}, Name: name, Target: target}, Group{Name: name, Target: target, Act: act + 1})
				if (err == nil) != (seen >= last && (target != "" || want[name] != "")) {
					t.Fatalf("put %s=%q seen %d, last %d: %v", name, target, seen, last, err)
				}
				if err == nil {
					g, act = next, act+1
					want[name] = target
				}
			},
			"": func(t *rapid.T) {
				n := 0
				for name, target := range want {
					if got, ok := g.Get(name); ok != (target != "") || got.Target != target && ok {
						t.Fatalf("%s is %+v, want %q", name, got, target)
					}
					if target != "" {
						n++
					}
				}
				all := g.All()
				for i := 1; i < len(all); i++ {
					if all[i-1].Name >= all[i].Name {
						t.Fatal("not sorted")
					}
				}
				if len(all) != n {
					t.Fatalf("%d groups, want %d", len(all), n)
				}
			},
		})
	})
}

func TestSettings(t *testing.T) {
	w := newTown(t)
	if s := w.record.Settings; s.OutputTo() != "" || s.OutputKeep() != 0 || s.RecordsKeep() != DefaultRecordsKeep || len(s.All()) != 0 {
		t.Errorf("at the beginning: %+v", s)
	}
	w.must(ActSetting, w.setting("alice", SettingRecordsKeep, "90m"))
	old := w.record
	w.must(ActSetting, w.setting("alice", SettingOutputTo, "syslog"))
	w.must(ActSetting, w.setting("alice", SettingOutputKeep, "512MiB"))
	s := w.record.Settings
	if s.OutputTo() != "syslog" || s.OutputKeep() != 512<<20 || s.RecordsKeep() != 90*time.Minute {
		t.Errorf("%+v", s)
	}
	if all := s.All(); len(all) != 3 || all[0].Name != SettingOutputKeep || all[2].By != "alice" || all[0].Changed != w.now {
		t.Errorf("%+v", all)
	}
	if len(old.Settings.All()) != 1 {
		t.Error("an old record changed")
	}
	again := w.setting("alice", SettingOutputTo, "/var/log/muster")
	w.must(ActSetting, again)
	w.must(ActSetting, w.setting("alice", SettingOutputTo, ""))
	if s := w.record.Settings; s.OutputTo() != "" || len(s.All()) != 2 {
		t.Errorf("set back: %+v", s.All())
	}
	refused(t, w.apply(ActSetting, again), fleet.Conflict, "was changed at act")

	w.charter(CharterPutOperator, operator("bob", "web"))
	refused(t, w.apply(ActSetting, w.setting("bob", SettingOutputTo, "syslog")), fleet.Denied, "may not setting.put")
	refused(t, w.apply(ActSetting, w.setting("alice", "output.too", "syslog")), fleet.Invalid, `setting "output.too" is not understood by this version`)
	refused(t, w.apply(ActSetting, w.setting("alice", SettingOutputTo, "nowhere")), fleet.Invalid, "cannot go")
}

func TestCheckSetting(t *testing.T) {
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{SettingOutputTo, "", true}, {SettingOutputTo, "syslog", true}, {SettingOutputTo, "/var/log/muster", true}, {SettingOutputTo, "/a b", true},
		{SettingOutputTo, "s3://bucket", true}, {SettingOutputTo, "s3://my.bucket-1/a/b c/", true},
		{SettingOutputTo, "/", false}, {SettingOutputTo, "relative", false}, {SettingOutputTo, "/a/../b", false}, {SettingOutputTo, "/a\nb", false},
		{SettingOutputTo, "/a\x00", false}, {SettingOutputTo, "/a\x85", false}, {SettingOutputTo, "/" + strings.Repeat("x", MaxOutputTo), false},
		{SettingOutputTo, "s3://", false}, {SettingOutputTo, "s3://ab/x", false}, {SettingOutputTo, "s3://Bucket/x", false}, {SettingOutputTo, "s3:///x", false},
		{SettingOutputTo, "http://x", false}, {SettingOutputTo, "Syslog", false},
		{SettingOutputKeep, "1048576", true}, {SettingOutputKeep, "1MiB", true}, {SettingOutputKeep, "1024TiB", true}, {SettingOutputKeep, "4GiB", true},
		{SettingOutputKeep, "1048575", false}, {SettingOutputKeep, "1025TiB", false}, {SettingOutputKeep, "4GB", false}, {SettingOutputKeep, "-1", false},
		{SettingOutputKeep, "99999999999999999999", false}, {SettingOutputKeep, "9223372036854775807TiB", false}, {SettingOutputKeep, "MiB", false}, {SettingOutputKeep, "1.5GiB", false},
		{SettingRecordsKeep, "1h", true}, {SettingRecordsKeep, "30d", true}, {SettingRecordsKeep, "400d", true}, {SettingRecordsKeep, "1h30m", true},
		{SettingRecordsKeep, "59m", false}, {SettingRecordsKeep, "401d", false}, {SettingRecordsKeep, "0d", false}, {SettingRecordsKeep, "70000d", false},
		{SettingRecordsKeep, "1.5d", false}, {SettingRecordsKeep, "d", false}, {SettingRecordsKeep, "-30d", false}, {SettingRecordsKeep, "soon", false},
		{"", "", false}, {"x", "", false},
	} {
		if err := CheckSetting(c.name, c.value); (err == nil) != c.ok || err != nil && fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
	}
}

func TestPolicyContextOfARun(t *testing.T) {
	p := compile(t, `
		permit (principal, action == Action::"run", resource is Node) when { context.document == "web-greet" && !context.direct };
		permit (principal, action == Action::"document.put", resource == Document::"web-greet");
		permit (principal, action == Action::"document.delete", resource is Document) when { resource.name like "tmp-*" };`)
	bob := operator("bob").AsPrincipal()
	n1 := Resource{Type: "Node", Name: "n1"}
	for name, c := range map[string]struct {
		ok  bool
		ask Ask
	}{
		"the document":           {true, Ask{Action: ActRun, Resource: n1, Document: "web-greet"}},
		"directly":               {false, Ask{Action: ActRun, Resource: n1, Document: "web-greet", Direct: true}},
		"another document":       {false, Ask{Action: ActRun, Resource: n1, Document: "web-greet2"}},
		"no document":            {false, Ask{Action: ActRun, Resource: n1}},
		"put it":                 {true, Ask{Action: ActPutDocument, Resource: Resource{Type: "Document", Name: "web-greet"}}},
		"put another":            {false, Ask{Action: ActPutDocument, Resource: Resource{Type: "Document", Name: "tmp-1"}}},
		"delete":                 {true, Ask{Action: ActDeleteDocument, Resource: Resource{Type: "Document", Name: "tmp-1"}}},
		"delete another":         {false, Ask{Action: ActDeleteDocument, Resource: Resource{Type: "Document", Name: "web-greet"}}},
		"a node called like it":  {false, Ask{Action: ActPutDocument, Resource: Resource{Type: "Node", Name: "web-greet"}}},
		"groups are the fleet's": {false, Ask{Action: ActPutGroup, Resource: Resource{Type: "Fleet", Name: "web-greet"}}},
	} {
		c.ask.Principal = bob
		if _, err := p.Decide(c.ask); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
