package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// parts is what a binary was made of.
type parts struct {
	goVersion string
	digest    string // of the binary, SHA-256 in hex
	modules   []module
}

type module struct {
	path, version string
	sum           string // as go.sum has it
	dir           string // where its source is on this machine
}

// readParts reads from the binary itself what is in it, and asks go where the sources are.
func readParts(ctx context.Context, top, bin string) (parts, error) {
	info, err := buildinfo.ReadFile(bin)
	if err != nil {
		return parts{}, err
	}
	data, err := os.ReadFile(bin)
	if err != nil {
		return parts{}, err
	}
	sum := sha256.Sum256(data)
	p := parts{goVersion: strings.TrimPrefix(info.GoVersion, "go"), digest: hex.EncodeToString(sum[:])}
	list, err := output(ctx, top, "go", "list", "-m", "-f", "{{.Path}}\t{{.Dir}}", "all")
	if err != nil {
		return parts{}, err
	}
	dirs := map[string]string{}
	for line := range strings.Lines(list) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		dirs[path] = dir
	}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			return parts{}, fmt.Errorf("%s is replaced: a release is made of what go.sum names", dep.Path)
		}
		if dirs[dep.Path] == "" {
			return parts{}, fmt.Errorf("the source of %s is not here: go mod download", dep.Path)
		}
		p.modules = append(p.modules, module{dep.Path, dep.Version, dep.Sum, dirs[dep.Path]})
	}
	return p, nil
}

// The form of SPDX 2.3 as JSON, as much of it as is used.
type (
	spdxDocument struct {
		Version       string             `json:"spdxVersion"`
		License       string             `json:"dataLicense"`
		ID            string             `json:"SPDXID"`
		Name          string             `json:"name"`
		Namespace     string             `json:"documentNamespace"`
		Creation      spdxCreation       `json:"creationInfo"`
		Packages      []spdxPackage      `json:"packages"`
		Relationships []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		ID               string         `json:"SPDXID"`
		Name             string         `json:"name"`
		Version          string         `json:"versionInfo"`
		Purpose          string         `json:"primaryPackagePurpose,omitempty"`
		Download         string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		Checksums        []spdxChecksum `json:"checksums,omitempty"`
		SourceInfo       string         `json:"sourceInfo,omitempty"`
		LicenseConcluded string         `json:"licenseConcluded"`
		LicenseDeclared  string         `json:"licenseDeclared"`
		Copyright        string         `json:"copyrightText"`
		References       []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Kind string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const noAssertion = "NOASSERTION" // SPDX's word for: nobody looked

// bill is the list of what is in an architecture's binary, as SPDX 2.3.
func (o order) bill(a arch, p parts) ([]byte, error) {
	const self, document = "SPDXRef-muster", "SPDXRef-DOCUMENT"
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: document, Name: fmt.Sprintf("muster-%s-linux-%s", o.version, a.name),
		Namespace: fmt.Sprintf("https://github.com/muster-fleet/muster/sbom/%s/%s/%s", o.version, a.name, p.digest),
		Creation:  spdxCreation{o.date.Format(time.RFC3339), []string{"Tool: muster-packaging"}},
		Packages: []spdxPackage{{
			ID: self, Name: "muster", Version: o.version.String(), Purpose: "APPLICATION", Download: noAssertion,
			Checksums:        []spdxChecksum{{"SHA256", p.digest}},
			LicenseConcluded: "Apache-2.0", LicenseDeclared: "Apache-2.0", Copyright: noAssertion,
		}},
		Relationships: []spdxRelationship{{document, "DESCRIBES", self}},
	}
	modules := append([]module{{path: "stdlib", version: p.goVersion}}, p.modules...)
	for _, m := range modules {
		id := spdxID(m.path)
		one := spdxPackage{
			ID: id, Name: m.path, Version: m.version, Purpose: "LIBRARY", Download: noAssertion,
			LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, Copyright: noAssertion,
			References: []spdxRef{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.path + "@" + m.version}},
		}
		if m.sum != "" {
			one.SourceInfo = "go.sum " + m.sum
		}
		d.Packages = append(d.Packages, one)
		d.Relationships = append(d.Relationships, spdxRelationship{self, "STATIC_LINK", id})
	}
	text, err := json.MarshalIndent(d, "", " ")
	return append(text, '\n'), err
}

// spdxID makes an identifier of a path: SPDX allows letters, digits, dots and dashes.
func spdxID(path string) string {
	return "SPDXRef-" + regexp.MustCompile(`[^A-Za-z0-9.-]+`).ReplaceAllString(path, "-")
}

// writeNotices writes the licences of all that is in a binary.
func writeNotices(path string, p parts) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "muster is made with Go %s and these modules. Their licences follow.\n", p.goVersion)
	for _, m := range p.modules {
		names, err := licences(m.dir)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return fmt.Errorf("%s %s has no file with a licence", m.path, m.version)
		}
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(m.dir, name))
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "\n==== %s %s: %s\n\n%s\n", m.path, m.version, name, bytes.TrimSpace(text))
		}
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// licences lists the files of a module that say how it may be used.
func licences(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	form := regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|unlicense)([.-].*)?$`)
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() && form.MatchString(e.Name()) && !strings.HasSuffix(e.Name(), ".go") {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}
