package account

import (
	"reflect"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/fleet"
)

func TestFindAccount(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\n# comment\nbad:x:y:1::/:/bin/sh\nweb:x:33:34:,,,:/var/www:/usr/sbin/nologin"
	const group = "root:x:0:\nweb:x:34:web\nadm:x:4:syslog,web\nlog:x:5:webb\n"
	got, err := Find(passwd, group, "web")
	want := Account{"web", 33, 34, []int{4}, "/var/www", "/usr/sbin/nologin"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v %+v", err, got)
	}
	if byNumber, err := Find(passwd, group, "33"); err != nil || byNumber.Name != "web" {
		t.Fatalf("%v %+v", err, byNumber)
	}
	for user, kind := range map[string]fleet.Kind{"nobody": fleet.NotFound, "": fleet.NotFound, "bad": fleet.Invalid, "we": fleet.NotFound} {
		if _, err := Find(passwd, group, user); fleet.KindOf(err) != kind || err == nil {
			t.Errorf("%q: %v", user, err)
		}
	}
}

// An account is what its own line says.
func FuzzAccount(f *testing.F) {
	passwd, group := "root:x:0:0:root:/root:/bin/bash\ndeploy:x:1000:1000::/srv/x:/bin/sh\n", "root:x:0:\nsudo:x:27:deploy,ada\ndeploy:x:1000:deploy\n"
	f.Add(passwd, group, "deploy")
	f.Add(passwd, group, "1000")
	f.Add("a:b:4294967296:1::/:/bin/sh", "", "a")
	f.Fuzz(func(t *testing.T, passwd, group, user string) {
		a, err := Find(passwd, group, user)
		if err != nil {
			return
		}
		if a.UID < 0 || a.GID < 0 || !strings.Contains(passwd, a.Name+":") || (a.Name != user && !strings.Contains(passwd, ":"+user+":")) {
			t.Fatalf("%q is %+v", user, a)
		}
		for _, g := range a.Groups {
			if g < 0 || g == a.GID {
				t.Fatalf("groups %v", a.Groups)
			}
		}
	})
}
