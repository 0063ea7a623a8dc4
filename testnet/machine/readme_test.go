package machine

import (
	"path/filepath"
	"testing"
)

// TestThreeHosts types the README's way from three bare hosts to the first command, upgrades them through muster itself under a
// command and a session that run, and removes it from one. It is the part of TestPackages that every run of the tests has.
func TestThreeHosts(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds packages and starts machines")
	}
	t.Parallel()
	n := machines(t, nil, "web1", "web2", "web3")
	debs := packages(t, "deb")
	web1, web2, web3 := n.Machine("web1"), n.Machine("web2"), n.Machine("web3")
	before := changes(t, web2)
	bring := func(version string) {
		t.Helper()
		for _, m := range []*Machine{web1, web2, web3} {
			give(t, m, debs[version]["deb"], "/root/"+filepath.Base(debs[version]["deb"]))
		}
	}
	bring("1.0.0")
	transcript(t, n, "README.md", "Three hosts", 7)
	bring("1.1.0")
	upgrade(t, web1, web2, web3)
	removeDeb(t, web2, before)
}
