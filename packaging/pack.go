package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// toolFile is the module file of nfpm: its libraries are many and none of the agent's business.
const toolFile = "nfpm.mod"

func packageFormats() []string { return []string{"deb", "rpm", "apk"} }

// recipe is the file that nfpm reads, as much of it as is used. It is YAML, of which JSON is a part.
type recipe struct {
	Name        string             `json:"name"`
	Arch        string             `json:"arch"`
	Platform    string             `json:"platform"`
	Version     string             `json:"version"`
	Schema      string             `json:"version_schema"`
	Release     string             `json:"release"`
	Section     string             `json:"section"`
	Priority    string             `json:"priority"`
	Maintainer  string             `json:"maintainer"`
	Description string             `json:"description"`
	Homepage    string             `json:"homepage"`
	License     string             `json:"license"`
	NoGlobs     bool               `json:"disable_globbing"`
	MTime       time.Time          `json:"mtime"`
	Umask       int                `json:"umask"`
	Depends     []string           `json:"depends,omitempty"`
	Recommends  []string           `json:"recommends,omitempty"`
	Scripts     map[string]string  `json:"scripts"`
	RPM         rpmRecipe          `json:"rpm"`
	Deb         map[string]string  `json:"deb"`
	APK         scriptsRecipe      `json:"apk"`
	Contents    []contentsOfRecipe `json:"contents"`
}

type scriptsRecipe struct {
	Scripts map[string]string `json:"scripts,omitempty"`
}

type rpmRecipe struct {
	BuildHost   string `json:"buildhost"`
	Summary     string `json:"summary"`
	Compression string `json:"compression"`
}

type contentsOfRecipe struct {
	From string `json:"src,omitempty"`
	To   string `json:"dst"`
	Type string `json:"type,omitempty"`
	Info struct {
		Mode  int       `json:"mode"`
		Owner string    `json:"owner"`
		Group string    `json:"group"`
		MTime time.Time `json:"mtime"`
	} `json:"file_info"`
}

const (
	summary     = "fleet agent without a server"
	description = `muster runs commands on the hosts of a fleet from any one of them, keeps parameters and secrets, and opens shells. Every
host runs the same program; the hosts find each other by gossip and agree among themselves.`
)

// recipe says how a package is made; its scripts lie in a folder.
func (o order) recipe(a arch, format string, all files, scripts string) recipe {
	r := recipe{
		Name: "muster", Arch: a.of(format), Platform: "linux", Schema: "none", Section: "admin", Priority: "optional",
		Maintainer: "The muster authors <muster@muster-fleet.invalid>", Description: description, Homepage: "https://github.com/muster-fleet/muster",
		License: "Apache-2.0", NoGlobs: true, MTime: o.date, Umask: 0o022, Scripts: map[string]string{},
		RPM: rpmRecipe{BuildHost: "localhost", Summary: summary, Compression: "gzip"},
		Deb: map[string]string{"compression": "gzip"},
	}
	script := func(name string) string { return filepath.Join(scripts, name) }
	switch format {
	case "deb":
		r.Version, r.Release = o.version.deb(), "1"
		r.Description = summary + "\n" + description
		r.Depends = []string{"passwd"} // groupadd
		for _, when := range []string{"postinstall", "preremove", "postremove"} {
			r.Scripts[when] = script(when)
		}
	case "rpm":
		r.Version, r.Release = o.version.rpm(), "1"
		r.Recommends = []string{"shadow-utils"}
		for _, when := range []string{"preinstall", "postinstall", "preremove", "postremove"} {
			r.Scripts[when] = script(when)
		}
	case "apk":
		r.Version, r.Release = o.version.apk(), "0"
		r.Description = summary // of one line: more would be fields of their own
		for _, when := range []string{"preinstall", "postinstall", "preremove", "postremove"} {
			r.Scripts[when] = script(when)
		}
		r.APK.Scripts = map[string]string{"postupgrade": script("postupgrade")}
	}
	for _, one := range all.of(format) {
		c := contentsOfRecipe{From: one.from, To: one.path}
		c.Info.Mode, c.Info.Owner, c.Info.Group, c.Info.MTime = int(one.mode), "root", "root", o.date
		r.Contents = append(r.Contents, c)
	}
	return r
}

// packageName is a package's file, as its kind of system has it.
func (o order) packageName(a arch, format string) string {
	switch format {
	case "deb":
		return fmt.Sprintf("muster_%s-1_%s.deb", o.version.deb(), a.deb)
	case "rpm":
		return fmt.Sprintf("muster-%s-1.%s.rpm", o.version.rpm(), a.rpm)
	}
	return fmt.Sprintf("muster-%s-r0.%s.apk", o.version.apk(), a.apk)
}

// pack makes one package.
func (o order) pack(ctx context.Context, a arch, format string, all files, work, made string) error {
	scripts := filepath.Join(work, format)
	if err := o.copyScripts(format, scripts); err != nil {
		return err
	}
	text, err := json.MarshalIndent(o.recipe(a, format, all, scripts), "", " ")
	if err != nil {
		return err
	}
	config := filepath.Join(work, format+".json")
	if err := os.WriteFile(config, text, 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile="+filepath.Join("packaging", toolFile), "nfpm",
		"package", "--config", config, "--packager", format, "--target", filepath.Join(made, o.packageName(a, format)))
	cmd.Dir = o.top
	cmd.Env = append(os.Environ(), "GOFLAGS=", "SOURCE_DATE_EPOCH="+strconv.FormatInt(o.date.Unix(), 10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nfpm: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// copyScripts copies a format's scripts with the date of everything else: nfpm keeps what the files have.
func (o order) copyScripts(format, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	from := filepath.Join(o.top, "packaging", "scripts", format)
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		name := filepath.Join(to, e.Name())
		if err := os.WriteFile(name, text, 0o755); err != nil {
			return err
		}
		if err := os.Chtimes(name, o.date, o.date); err != nil {
			return err
		}
	}
	return nil
}
