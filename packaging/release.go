package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/release"
)

// releaseFormat is the format of what muster upgrade takes: one signed file with the binaries of all architectures.
const releaseFormat = "release"

// keyOrder is what is to be done beside making anything.
type keyOrder struct {
	make   string // a file for a new key
	cosign string // a release file that gets more signatures
}

// readSigners reads key files, their names separated by commas.
func readSigners(names string) ([]auth.Signer, error) {
	if names == "" {
		return nil, nil
	}
	var out []auth.Signer
	for _, name := range strings.Split(names, ",") {
		text, err := readSmall(name)
		if err != nil {
			return nil, err
		}
		signer, err := release.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, signer)
	}
	return out, nil
}

// readSmall reads a key file that nobody else can read.
func readSmall(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others than its owner: chmod 600 %s", name, name)
	}
	text, err := io.ReadAll(io.LimitReader(f, release.MaxKeyFile+1))
	return string(text), err
}

// makeKey makes a key: the file, and the public half in FILE.pub.
func makeKey(name string, stdout io.Writer) error {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	public := auth.FormatReleaseKey(auth.NewSigner(ed25519.NewKeyFromSeed(seed)).Public())
	if err := writeNew(name, release.FormatKey(seed), 0o600); err != nil {
		return err
	}
	if err := writeNew(name+".pub", public+"\n", 0o644); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s signs releases; keep it off the hosts. Whose fleet is to take them:\n  muster setting put %s %s\n", name, auth.SettingReleaseKeys, public)
	return nil
}

// writeNew writes a file that was not there.
func writeNew(name, text string, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Sync(), f.Close())
}

// goArch is what Go calls an architecture.
func (a arch) goArch() string {
	for _, set := range a.env {
		if name, ok := strings.CutPrefix(set, "GOARCH="); ok {
			return name
		}
	}
	return a.name
}

// writeRelease makes one release of the binaries that were built.
func (o order) writeRelease(work, made string) error {
	packed := map[string][]byte{}
	var builds []release.Build
	for _, a := range o.arches {
		binary, err := os.ReadFile(filepath.Join(work, a.name, "muster"))
		if err != nil {
			return err
		}
		build, data, err := release.Pack(a.goArch(), binary)
		if err != nil {
			return err
		}
		builds = append(builds, build)
		packed[build.Arch] = data
	}
	m, err := release.NewManifest(o.version.String(), fleet.LevelNewest, o.date, builds)
	if err != nil {
		return err
	}
	signed, err := release.Sign(m, o.signers...)
	if err != nil {
		return err
	}
	return writeReleaseFile(filepath.Join(made, "muster-"+o.version.String()+release.Suffix), func(w io.Writer) error {
		return release.WriteFile(w, signed, m, packed)
	})
}

// writeReleaseFile writes a file beside its place, and puts it there when it is whole.
func writeReleaseFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		os.Remove(name + ".new")
	}
	return err
}

// cosign adds signatures to a release file, all of which is looked through.
func cosign(name string, signers []auth.Signer, stdout io.Writer) error {
	if len(signers) == 0 {
		return fmt.Errorf("--cosign wants --sign KEYFILE")
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	signed, m, err := release.Cosign(f, signers...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	err = writeReleaseFile(name, func(w io.Writer) error {
		if _, err := w.Write(release.AppendHeader(nil, signed)); err != nil {
			return err
		}
		return release.ReadBuilds(f, m, func(_ release.Build, _ int, data []byte) error {
			_, err := io.Copy(w, bytes.NewReader(data))
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(stdout, "%s: release %s, digest %s, now with %d signatures\n", name, m.Version, signed.Digest(), len(signed.Seals))
	return nil
}
