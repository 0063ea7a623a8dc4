package document

import (
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
)

func packageOf(f *form) Package {
	p := Package{
		Name: f.need("name"), Action: f.oneOf("action", "Install", "Uninstall"), Version: f.text("version"),
		InstallationType: f.oneOf("installationType", "", "Uninstall and reinstall", "In-place update"),
	}
	if n := f.take("additionalArguments"); n != nil && n.shape == scalar && strings.Trim(n.text, "{} ") != "" {
		f.fail(n.line, "additionalArguments are for packages of AWS's own; the host's package manager has none")
	}
	return p
}

func dockerOf(f *form) Docker {
	// The actions are those of AWS's guide; Exec is docker's own.
	d := Docker{
		Action: f.oneOf("action", "", "Create", "Start", "Run", "Stop", "Rm", "Rmi", "Ps", "Pull", "Images", "Inspect", "Logs", "Stats", "Exec"),
		Cmd:    f.text("cmd"), Container: f.text("container"), Image: f.text("image"), Memory: f.text("memory"),
		User: f.text("user"), Publish: f.text("publish"), WorkingDirectory: f.text("workingDirectory"),
		CPUShares: int64(f.count("cpuShares")), Volume: nonEmpty(f.texts("volume")), Env: nonEmpty(f.texts("env")),
	}
	if f.at.get("action") == nil {
		f.fail(f.at.line, "action is missing")
	}
	return d
}

func nonEmpty(in []string) []string {
	var out []string
	for _, s := range in {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func inventoryOf(f *form) Inventory {
	inv := Inventory{Items: map[string]string{}}
	for _, key := range []string{"applications", "awsComponents", "networkConfig", "billingInfo", "files", "services", "windowsRoles",
		"windowsRegistry", "windowsUpdates", "instanceDetailedInformation", "customInventory", "customInventoryDirectory"} {
		if s := f.text(key); s != "" {
			inv.Items[key] = s
		}
	}
	return inv
}

func upgradeOf(f *form) Upgrade {
	return Upgrade{AgentName: f.text("agentName"), TargetVersion: f.text("targetVersion"), AllowDowngrade: f.flag("allowDowngrade"), Source: f.text("source"),
		Release: f.text("release"), Sources: f.text("sources"), DownloadOnly: f.flag("downloadOnly")}
}

// download builds aws:downloadContent.
func (b *builder) download(f *form, out *steps.Step) error {
	in := Download{
		SourceType:  f.oneOf("sourceType", "", "GitHub", "Git", "HTTP", "S3", "SSMDocument", "LocalPath"),
		Destination: f.text("destinationPath"),
	}
	info, err := b.mapInput(f, "sourceInfo")
	if err != nil {
		return err
	}
	if f.at.get("sourceType") == nil {
		f.fail(f.at.line, "sourceType is missing")
	}
	if info != nil && info.shape == dict {
		source := read(info, b.s.of()+": sourceInfo", nil)
		in.Source = sourceOf(source, in.SourceType)
		if err := source.done(); err != nil {
			return err
		}
	}
	if in.SourceType == "SSMDocument" && in.Source.Name != "" && !b.r.trial {
		u, err := useOf(in.Source.Name, f.at.get("sourceInfo").line)
		if err != nil {
			return err
		}
		d, err := b.find(u, info.line)
		if err != nil {
			return err
		}
		in.Text = string(d.text)
	}
	if err := b.checkDownload(f, in); err != nil {
		return err
	}
	return act(f, out, ActDownload, in)
}

// sourceOf reads the keys that a source type has. An empty type is one that is not known yet: all keys are then.
func sourceOf(f *form, kind string) SourceInfo {
	var s SourceInfo
	is := func(kinds ...string) bool {
		for _, k := range kinds {
			if kind == "" || kind == k {
				return true
			}
		}
		return false
	}
	need := func(key string) string {
		if kind == "" {
			return f.text(key)
		}
		return f.need(key)
	}
	if is("GitHub") {
		s.Owner, s.BaseURL, s.TokenInfo = need("owner"), f.text("baseURL"), f.text("tokenInfo")
	}
	if is("GitHub", "Git") {
		s.Repository, s.GetOptions = need("repository"), f.text("getOptions")
	}
	if is("GitHub", "S3", "LocalPath") {
		if kind == "GitHub" {
			s.Path = f.text("path")
		} else {
			s.Path = need("path")
		}
	}
	if is("Git") {
		s.PrivateSSHKey, s.SkipHostKeyChecking = f.text("privateSSHKey"), f.flag("skipHostKeyChecking")
	}
	if is("Git", "HTTP") {
		s.Username, s.Password = f.text("username"), f.text("password")
	}
	if is("HTTP") {
		s.URL, s.AuthMethod = need("url"), f.oneOf("authMethod", "", "None", "Basic", "Digest")
		s.AllowInsecureDownload = f.flag("allowInsecureDownload")
	}
	if is("HTTP", "S3") {
		s.SHA256 = f.text("sha256")
	}
	if is("S3") {
		s.Endpoint, s.Region = f.text("endpoint"), f.text("region")
	}
	if is("SSMDocument") {
		s.Name = need("name")
	}
	return s
}

// mapInput reads a map that AWS's documents also give as JSON in a text. The JSON is read first and the values are put
// in then, so that no value can break out of its place.
func (b *builder) mapInput(f *form, key string) (*node, error) {
	n := f.raw(key)
	if n == nil {
		return nil, nil
	}
	if _, alone := whole(n.text); n.shape == scalar && !alone {
		if strings.TrimSpace(n.text) == "" {
			return nil, nil
		}
		parsed, err := embedded(n)
		if err != nil {
			return nil, refuse(n.line, "%s: %s: %w", b.s.of(), key, err)
		}
		n = parsed
	}
	out, err := b.r.resolve(n)
	if err != nil {
		return nil, err
	}
	if out.shape == scalar && strings.TrimSpace(out.text) != "" { // a String parameter that holds JSON
		if out, err = embedded(out); err != nil {
			return nil, refuse(n.line, "%s: %s: %w", b.s.of(), key, err)
		}
	}
	if out.shape != dict && out.shape != open && out.text != "" {
		return nil, refuse(n.line, "%s: %s is a map, not %s", b.s.of(), key, out.shape)
	}
	return out, nil
}

// embedded reads the JSON map inside of a text. Its lines are the text's.
func embedded(n *node) (*node, error) {
	out, err := readJSON([]byte(n.text), 1)
	if err != nil {
		return nil, err
	}
	out.relocate(n)
	return out, nil
}

// relocate turns the lines within a text into the document's.
func (n *node) relocate(of *node) {
	n.line = of.lineOf(n.line - 1)
	for _, k := range n.keys {
		k.line = of.lineOf(k.line - 1)
	}
	for _, c := range n.items {
		c.relocate(of)
	}
}

// lineOf returns the document's line of a text's line, from 0. Only of a literal block they go along.
func (n *node) lineOf(line int) int {
	if n.block {
		return n.line + 1 + line
	}
	return n.line
}
