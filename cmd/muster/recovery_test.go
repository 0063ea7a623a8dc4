package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
	"github.com/muster-fleet/muster/params"
)

// TestInitSetsTheRecoveryRecipient founds a fleet, seals something for its recovery recipient as the charter has it, and opens
// that with the key that init printed.
func TestInitSetsTheRecoveryRecipient(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	paper := filepath.Join(dir, "paper")
	var out bytes.Buffer
	a := &app{stdin: &out, stdout: &out, stderr: &out, getenv: func(string) string { return "" }, euid: os.Geteuid(), interrupts: notifyInterrupts}
	if code := runApp(t.Context(), a, []string{
		"init", "--fleet", "lab", "--operator", "alice", "--name", "web1", "--bind", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"),
		"--identity", filepath.Join(dir, "operator.key"), "--recovery-file", paper,
	}); code != 0 {
		t.Fatalf("exit %d: %s", code, out.String())
	}
	charter := foundedCharter(t, filepath.Join(dir, "data"))
	if charter.Policy().Text() != auth.FirstPolicy {
		t.Error("another policy than the first")
	}
	binding := params.SeedBinding{Fleet: charter.Fleet(), Keyring: "web", Number: 1}
	secret := bytes.Repeat([]byte("s"), params.PrivateSize)
	box, err := params.SealSeed(binding, secret, charter.Recovery())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(paper)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := parseRecoveryText(string(text))
	if err != nil {
		t.Fatal(err)
	}
	private, err := params.RecoveryPrivate(seed)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := params.OpenSeed(binding, box, private); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the printed key does not open what is sealed for recovery: %v", err)
	}
}

// foundedCharter takes in what a folder's founding begins with.
func foundedCharter(t *testing.T, dir string) *auth.Charter {
	t.Helper()
	f, err := folder.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	founding, err := f.Founding()
	if err != nil || founding == nil {
		t.Fatal(err)
	}
	record := auth.NewRecord()
	for i, act := range founding.Acts {
		act := auth.Act{Index: uint64(i + 1), Time: time.Now().UnixMilli(), Kind: act.Kind, Data: act.Data}
		if record, err = record.Apply(act, fleet.ID{}); err != nil {
			t.Fatal(err)
		}
	}
	return record.Charter
}
