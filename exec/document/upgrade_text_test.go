package document

import "testing"

// TestUpgradeTextStays: commands pin the document of upgrades by its digest, and a node with another text refuses it. So a version
// that had another text could not upgrade those before it. What is to be added goes into a document of another name.
func TestUpgradeTextStays(t *testing.T) {
	const want = "lnlxnpj5lxyyopuwpz7hdmdv7j"
	text, ok := builtIn(UpgradeName)
	if !ok {
		t.Fatal("it is not there")
	}
	if got := Digest(text).String(); got != want {
		t.Errorf("the digest of %s is %s now, and was %s", UpgradeName, got, want)
	}
}
