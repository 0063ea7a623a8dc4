package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/folder"
)

// plantScript runs a host into whose log, unit and files somebody wrote what they should not have, and packs a bundle. The word
// Canary begins every planted text.
const plantScript = `
fleet 2
exits 0 param put /canary/plain CanaryParameter
exits 0 param put /canary/secret file://$WORK/secret.txt --type SecureString
exits 0 node tag web02 role=web
exits 0 run --all -- 'echo CanaryOutput'
exits 0 token create --uses 3 -o json
cp stdout join.txt
plant
env PATH=$WORK/bin${:}$PATH
env CANARY_TOKEN=CanaryEnvironment
exec muster debug bundle --out b.tar.gz
stdout '^masked +[0-9]+ places that looked like secrets$'
unplanted b.tar.gz
! exec muster debug bundle --out b.tar.gz
stderr 'b.tar.gz exists already'
exits 2 debug bundle --via 10.0.0.1
-- secret.txt --
CanarySecret
`

// planted is what journalctl and systemctl say in the test; the words in braces are filled in.
const planted = `Nov 23 muster[1]: muster agent --join {join} --name web1
Nov 23 muster[1]: level=INFO msg="database" password=CanaryPassword1 user=app
Nov 23 muster[1]: {"secret_key": "CanaryJson\"quoted", "n": 1}
Nov 23 app[2]: Authorization: Bearer CanaryBearerToken
Nov 23 app[2]: GET https://ann:CanaryUser@example.com/x
Nov 23 app[2]: mysql --password CanaryFlag -u root; curl --token=CanaryFlag2
Nov 23 app[2]: api_key='Canary with spaces'
Environment=DB_PASS=CanaryUnit OTHER=CanaryOther
Nov 23 app[2]: seed in hex {hex}, in base64 {base64}, of a keyring {ring}
Nov 23 app[2]: key {key}
Nov 23 app[2]: recovery IK2U-4VMV-NV2L-BWOK-4UBP-VYDJ-QKMD-PHDX-AREX-ROC2-JI5J-XGX2-DF55-ZFSX
Nov 23 app[2]: dump aGVsbG8Canary1dGhpcyBpcyBhIGtleSB0aGF0IG5vYm9keSBuYW1lZA9
-----BEGIN OPENSSH PRIVATE KEY-----
CanaryPrivateKeyOverSeveral
LinesCanary
-----END OPENSSH PRIVATE KEY-----
Nov 23 muster[1]: level=INFO msg="an ordinary line that stays"
`

// TestBundleHoldsNoSecret plants secrets wherever they could come into a bundle from, and searches it.
func TestBundleHoldsNoSecret(t *testing.T) {
	t.Parallel()
	seeds := [][]byte{random32(), random32(), random32(), random32()}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plant.txt"), []byte(plantScript), 0o600); err != nil {
		t.Fatal(err)
	}
	params := scriptParams(dir)
	var secrets []string // beside what begins with Canary
	params.Cmds["plant"] = func(ts *testscript.TestScript, _ bool, _ []string) {
		work := ts.Getenv("WORK")
		ts.Check(plantFolder(work, seeds))
		key, err := os.ReadFile(filepath.Join(ts.Getenv("HOME"), ".config", "muster", identityName))
		ts.Check(err)
		join := field(ts.ReadFile("join.txt"), `"join": "`)
		signing := field(string(key), "signing-seed: ")
		secrets = append(secrets, join, signing, field(string(key), "secrets-key: "), "IK2U-4VMV", "aGVsbG8")
		said := strings.NewReplacer("{join}", join, "{hex}", hex.EncodeToString(seeds[0]), "{base64}", base64.StdEncoding.EncodeToString(seeds[2]), "{ring}", hex.EncodeToString(seeds[3]), "{key}", signing).Replace(planted)
		ts.Check(os.MkdirAll(filepath.Join(work, "bin"), 0o700))
		for _, program := range []string{"journalctl", "systemctl", "ss", "dmesg"} {
			ts.Check(os.WriteFile(filepath.Join(work, "bin", program), []byte("#!/bin/sh\ncat <<'END'\n"+said+"END\n"), 0o700))
		}
	}
	params.Cmds["unplanted"] = func(ts *testscript.TestScript, _ bool, args []string) {
		parts, err := untar(ts.MkAbs(args[0]))
		ts.Check(err)
		for _, want := range []string{"manifest.txt", "doctor.txt", "doctor.json", "status.json", "quorum.json", "nodes.json", "log.txt", "stacks.txt", "heap.pprof", "folder.txt"} {
			if len(parts[bundlePrefix+want]) == 0 {
				t.Errorf("the bundle has no %s", want)
			}
		}
		if !bytes.Contains(parts[bundlePrefix+"log.txt"], []byte("an ordinary line that stays")) {
			t.Error("the log lost an ordinary line")
		}
		search(t, parts, secrets, seeds)
	}
	testscript.Run(t, params)
}

// search looks for what was planted in every part of a bundle, as it is and unpacked.
func search(t *testing.T, parts map[string][]byte, secrets []string, seeds [][]byte) {
	t.Helper()
	for name, data := range parts {
		if zipped, err := gzip.NewReader(bytes.NewReader(data)); err == nil { // a heap profile
			data, _ = io.ReadAll(zipped)
		}
		if at := bytes.Index(data, []byte("Canary")); at >= 0 {
			t.Errorf("%s holds %q", name, data[at:min(at+40, len(data))])
		}
		for _, s := range secrets {
			if s == "" || bytes.Contains(data, []byte(s)) {
				t.Errorf("%s holds the secret %q", name, s)
			}
		}
		for i, s := range seeds {
			inHex := hex.EncodeToString(s)
			for form, text := range map[string][]byte{"bytes": s, "hex": []byte(inHex), "HEX": []byte(strings.ToUpper(inHex)), "base64": []byte(base64.RawStdEncoding.EncodeToString(s))} {
				if bytes.Contains(data, text) {
					t.Errorf("%s holds seed %d as %s", name, i, form)
				}
			}
		}
	}
}

// plantFolder makes the files of a host in a folder.
func plantFolder(dir string, seeds [][]byte) error {
	at := filepath.Join(dir, "folder")
	f, err := folder.Create(at)
	if err != nil {
		return err
	}
	hpke := append(seeds[1], seeds[1]...)
	err = errors.Join(
		f.PutIdentity(folder.Identity{Fleet: fleet.Sum(seeds[0]), Name: "web1", Seed: seeds[0], HPKESeed: hpke[:32]}),
		f.PutGossipKeys([]folder.GossipKey{{Epoch: 1, Key: seeds[2]}}),
		f.PutSeed(node.Seed{Name: node.SeedName{Number: 1}, Keyring: "web", Private: seeds[3]}),
		f.Close(),
	)
	for _, name := range []string{"identity", "gossip-keys", "keyrings"} { // into the folder that has the agent's socket
		err = errors.Join(err, os.Rename(filepath.Join(at, name), filepath.Join(dir, name)))
	}
	return err
}

func random32() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}

// field returns what stands behind a beginning, to the end of its line or quotes.
func field(text, beginning string) string {
	_, rest, _ := strings.Cut(text, beginning)
	return rest[:max(0, strings.IndexAny(rest, "\"\n"))]
}

func untar(path string) (map[string][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		return nil, fmt.Errorf("%v, %v", info, err)
	}
	zip, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	parts := map[string][]byte{}
	for in := tar.NewReader(zip); ; {
		head, err := in.Next()
		if err == io.EOF {
			return parts, nil
		}
		if err == nil {
			parts[head.Name], err = io.ReadAll(in)
		}
		if err != nil {
			return nil, err
		}
	}
}

// TestMaskLeavesWhatHelps: IDs, digests, addresses, places in code and ordinary settings are no secrets.
func TestMaskLeavesWhatHelps(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"node " + fleet.Sum([]byte("x")).Text() + " at [fd00::1]:7980",
		"command 6705067d-cd39-4b19-896c-013d6ad0967b digest " + hex.EncodeToString(random32()),
		"/src/muster/node/auth/token.go:113 +0x1d",
		"github.com/muster-fleet/muster/node/agent.(*Agent).serveParamWatchesOfEverybody.func1",
		"/var/lib/muster/recordings-leaving/2026-11-23T19:01:22Z-web1.example.com/Part000001",
		"level=INFO msg=\"the agent runs\" node=web1 socket=/run/muster/agent.sock",
		"ExecStart=/usr/bin/muster agent",
		"level=INFO msg=\"a run goes on\" author=ann passed=3 path=/a pattern=x bypassed=1",
		"see https://example.com/a/b and ann@example.com; mkdir -p /var/lib/muster; journalctl -u muster",
	} {
		var m mask
		if got := string(m.text(newPatterns(), []byte(text), true)); got != text || m.count != 0 {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestMaskFindsWhatProgramsWrite: secrets in the forms in which logs and units hold them.
func TestMaskFindsWhatProgramsWrite(t *testing.T) {
	t.Parallel()
	p := newPatterns()
	for _, text := range []string{
		"DB_PASS=hunter2!", "MYSQL_PWD=hunter2!", "dbpass: hunter2!", "proxy_auth_line=hunter2!", `psk="hunter2!"`, "CI_PAT=hunter2!",
		"mysql -phunter2! -u root", "sshpass -p hunter2! ssh web1", "sshpass -phunter2! ssh web1", "curl -u ann:hunter2! http://x", "curl --user=ann:hunter2! http://x",
		"https://hunter2!@example.com/x", "postgres://u:p@hunter2!@host/db", "redis://:pa/hunter2!@host", "https://ann:hunter2!@host",
		"https://x/?X-Amz-Signature=hunter2!&a=b", "https://x/?sv=1&sig=hunter2!", "said xoxb-1234-hunter2-4567", "glpat-hunter2_abcdefghijklmnop", "github_pat_hunter2abcdefghijklmnop",
		"[Service]\nEnvironment=A=1 \\\n  B=hunter2!\nUser=x", "Environment=A=1 \\\n B=2 \\\n C=hunter2!", "password = two hunter2!", "password: two hunter2!", "x secret= two hunter2!",
		"token " + strings.Repeat("68756e74657232", 3), "sudo: ann : PWD=/ ; USER=root ; COMMAND=/bin/login hunter2!",
	} {
		var m mask
		got := string(m.text(p, []byte(text), true))
		if m.count == 0 || strings.Contains(got, "hunter2") || strings.Contains(got, "68756e74657232") {
			t.Errorf("%q became %q", text, got)
		}
	}
	var m mask
	if got := string(m.text(p, []byte("Environment=A=1 \\\n B=2\nUser=x\n"), true)); !strings.HasSuffix(got, "\nUser=x\n") {
		t.Errorf("what follows an environment is gone: %q", got)
	}
}

// TestMaskFindsJoinStrings: also where a mail broke the line, and alone.
func TestMaskFindsJoinStrings(t *testing.T) {
	t.Parallel()
	join := auth.JoinString{Seed: random32(), Addrs: []string{"10.0.0.1:7980", "10.0.0.2:7980"}}.String()
	for _, text := range []string{join, "join " + join + ".", join[:60] + "\n" + join[60:], `"` + join + `"`} {
		var m mask
		got := string(m.text(newPatterns(), []byte(text), false))
		if m.count != 1 || strings.Contains(got, join[20:40]) || strings.Contains(got, join[len(join)-30:]) {
			t.Errorf("%q became %q", text, got)
		}
	}
}
