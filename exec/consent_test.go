package exec_test

import (
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/config"
	"github.com/muster-fleet/muster/node/fleet"
)

func TestWithheld(t *testing.T) {
	var (
		paused  = config.Consent{Paused: "paused by root"}
		noShell = config.Consent{NoShell: "no shell by root"}
		drained = map[string]string{fleet.DrainTag: "new disk"}
		argv    = exec.Command{Run: exec.Run{Argv: []string{"bash", "-c", "id"}}, Target: "*"}
		byDoc   = exec.Command{Documents: []exec.DocumentRef{{Name: "Patch", Version: 1}}, Target: "*"}
		meant   = exec.Command{Run: argv.Run, Target: "(* and (tag.muster.drain=* or *))"}
	)
	for name, c := range map[string]struct {
		cmd  exec.Command
		own  config.Consent
		tags map[string]string
		says string // of the refusal; empty: it is permitted
	}{
		"nothing is withheld":               {argv, config.Consent{}, map[string]string{"role": "web"}, ""},
		"paused":                            {argv, paused, nil, "paused by root"},
		"paused, a document":                {byDoc, paused, nil, "paused by root"},
		"paused, where drained is meant":    {meant, paused, drained, "paused by root"},
		"no shell, an argv":                 {argv, noShell, nil, "no shell by root"},
		"no shell, a document":              {byDoc, noShell, nil, ""},
		"upgrades off, something else":      {argv, config.Consent{NoUpgrades: "x"}, nil, ""},
		"drained":                           {argv, config.Consent{}, drained, "operators have drained this node: new disk"},
		"drained, without a reason":         {argv, config.Consent{}, map[string]string{fleet.DrainTag: "true"}, "operators have drained this node"},
		"drained, and meant":                {meant, config.Consent{}, drained, ""},
		"drained, and its target is broken": {exec.Command{Run: argv.Run, Target: "tag.muster.drain=* and ("}, config.Consent{}, drained, "drained"},
	} {
		v := exec.Verdict{Command: c.cmd, Status: exec.Pending, Genuine: true}.Withheld(c.own, c.tags)
		switch {
		case c.says == "" && (v.Status != exec.Pending || v.Consent):
			t.Errorf("%s: %s, %s", name, v.Status, v.Reason)
		case c.says != "" && (v.Status != exec.Refused || !v.Consent || !strings.Contains(v.Reason, c.says)):
			t.Errorf("%s: %s, %q", name, v.Status, v.Reason)
		}
	}
	denied := exec.Verdict{Status: exec.Refused, Reason: "policy"}
	if v := denied.Withheld(paused, drained); v.Reason != "policy" || v.Consent {
		t.Errorf("whoever policy refuses learns of the host: %+v", v)
	}
}

// What is withheld of documents: raw shell by whatever name, and upgrades of muster.
func TestWithheldDocuments(t *testing.T) {
	own := config.Consent{NoShell: "no shell by root", NoUpgrades: "no upgrades by root"}
	for name, c := range map[string]struct {
		document string // built in
		env      []string
		own      config.Consent
		says     string
	}{
		"raw shell":                     {"AWS-RunShellScript", nil, own, "no shell by root"},
		"raw shell, not withheld":       {"AWS-RunShellScript", nil, config.Consent{}, ""},
		"one that is bent":              {"AWS-UpdateSSMAgent", []string{"LD_PRELOAD=/tmp/x.so"}, config.Consent{NoShell: "no shell"}, "no shell"},
		"an upgrade":                    {"AWS-UpdateSSMAgent", nil, own, "no upgrades by root"},
		"an upgrade, shell off":         {"AWS-UpdateSSMAgent", nil, consentOf(t, "shell: false\n"), "no upgrades of muster"},
		"an upgrade, said to be fine":   {"AWS-UpdateSSMAgent", nil, consentOf(t, "shell: false\nupgrades: true\n"), ""},
		"what only chooses a version":   {"AWS-UpdateSSMAgent", nil, config.Consent{}, ""},
		"what runs another's documents": {"AWS-RunDocument", nil, own, "no shell by root"},
	} {
		s := newScene()
		text := builtIn(t, c.document)
		o := order(s.Fleet, s.Operator, []fleet.ID{s.web.ID}, func(cmd *exec.Command) {
			cmd.Documents = []exec.DocumentRef{ref(c.document, text)}
			cmd.Run = exec.Run{Timeout: cmd.Run.Timeout, Env: c.env}
		})
		v, err := s.judge(o)
		if err != nil || v.Status != exec.Pending {
			t.Fatalf("%s: %v, %s", name, err, v.Reason)
		}
		v = v.Withheld(c.own, nil)
		v, _, err = exec.JudgeDocuments(v, []auth.Envelope{}, s.Record, fleet.Member{ID: s.web.ID, Name: "web-1"}, s.Now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v = v.WithheldDocuments(c.own)
		switch {
		case c.says == "" && (v.Status != exec.Pending || v.Consent):
			t.Errorf("%s: %s, %s", name, v.Status, v.Reason)
		case c.says != "" && (v.Status != exec.Refused || !v.Consent || !strings.Contains(v.Reason, c.says)):
			t.Errorf("%s: %s, %q", name, v.Status, v.Reason)
		}
	}
}

// A document that runs another one from a file may run anything there, and replace muster: neither has been judged.
func TestWithheldDocumentsThatRunUnseenOnes(t *testing.T) {
	const head = "schemaVersion: '2.2'\nmainSteps:\n"
	fromFile := head + "- {name: a, action: 'aws:runDocument', inputs: {documentType: LocalPath, documentPath: /opt/next.yaml}}\n"
	byName := head + "- {name: a, action: 'aws:runDocument', inputs: {documentType: SSMDocument, documentPath: AWS-ConfigurePackage}}\n"
	elsewhere := strings.ReplaceAll(fromFile, "name: a,", "name: a, precondition: {StringEquals: [platformType, Windows]},")
	for name, c := range map[string]struct {
		text string
		own  config.Consent
		says string
	}{
		"shell off":               {fromFile, config.Consent{NoShell: "no shell"}, "no shell; this document runs another one from a file"},
		"upgrades off":            {fromFile, config.Consent{NoUpgrades: "no upgrades"}, "no upgrades; this document runs another one from a file"},
		"nothing withheld":        {fromFile, config.Consent{}, ""},
		"by name":                 {byName, config.Consent{NoShell: "no shell", NoUpgrades: "no upgrades"}, ""},
		"on other platforms only": {elsewhere, config.Consent{NoShell: "no shell", NoUpgrades: "no upgrades"}, ""},
	} {
		s := newScene()
		o := order(s.Fleet, s.Operator, []fleet.ID{s.web.ID}, func(cmd *exec.Command) {
			cmd.Documents = []exec.DocumentRef{ref("Next", c.text)}
			cmd.Run = exec.Run{Timeout: cmd.Run.Timeout}
		})
		v, err := s.judge(o)
		if err != nil || v.Status != exec.Pending {
			t.Fatalf("%s: %v, %s", name, err, v.Reason)
		}
		v, texts, err := exec.JudgeDocuments(v, []auth.Envelope{publish(s.Fleet, s.Operator, "Next", c.text)}, s.Record, fleet.Member{ID: s.web.ID, Name: "web-1"}, s.Now)
		if err != nil || v.Status != exec.Pending {
			t.Fatalf("%s: %v, %s", name, err, v.Reason)
		}
		if got := exec.WithheldInTurn(v.Command, texts, c.own); !strings.HasPrefix(got, c.says) || (got == "") != (c.says == "") {
			t.Errorf("%s, in its turn: %q", name, got)
		}
		v = v.WithheldDocuments(c.own)
		if v.Consent != (c.says != "") || !strings.HasPrefix(v.Reason, c.says) {
			t.Errorf("%s: %s, %q", name, v.Status, v.Reason)
		}
	}
}

// What was permitted is asked about once more when its turn comes, of all that the host's root withholds by then.
func TestWithheldInTurn(t *testing.T) {
	argv := exec.Command{Run: exec.Run{Argv: []string{"id"}}}
	byDoc := func(name string) (exec.Command, [][]byte) {
		text := builtIn(t, name)
		return exec.Command{Documents: []exec.DocumentRef{ref(name, text)}}, [][]byte{[]byte(text)}
	}
	shell, shellText := byDoc("AWS-RunShellScript")
	upgrade, upgradeText := byDoc("AWS-UpdateSSMAgent")
	packages, packagesText := byDoc("AWS-ConfigurePackage")
	bent := packages
	bent.Run.Env = []string{"LD_PRELOAD=/tmp/x.so"}
	own := config.Consent{NoShell: "no shell", NoUpgrades: "no upgrades"}
	for name, c := range map[string]struct {
		cmd   exec.Command
		texts [][]byte
		own   config.Consent
		want  string
	}{
		"nothing withheld":          {shell, shellText, config.Consent{}, ""},
		"paused, an argv":           {argv, nil, config.Consent{Paused: "paused", NoShell: "no shell"}, "paused"},
		"paused, a document":        {packages, packagesText, config.Consent{Paused: "paused"}, "paused"},
		"no shell, an argv":         {argv, nil, own, "no shell"},
		"no upgrades, an argv":      {argv, nil, config.Consent{NoUpgrades: "no upgrades"}, ""},
		"no shell, one by name":     {shell, shellText, own, "no shell"},
		"no shell, a bent document": {bent, packagesText, own, "no shell"},
		"no shell, a document":      {packages, packagesText, own, ""},
		"no upgrades, an upgrade":   {upgrade, upgradeText, own, "no upgrades"},
		"no upgrades, a document":   {packages, packagesText, own, ""},
	} {
		if got := exec.WithheldInTurn(c.cmd, c.texts, c.own); got != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}

// consentOf is what a host's configuration file comes to.
func consentOf(t *testing.T, text string) config.Consent {
	t.Helper()
	given, problems := config.Parse("f", []byte(text))
	c, more := config.Resolve(given)
	if len(problems)+len(more) > 0 {
		t.Fatal(problems, more)
	}
	return c.Consent()
}
