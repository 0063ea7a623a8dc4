package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/muster-fleet/muster/testnet/check"
)

// notThere and noTag are what a command line says when there is nothing to do its work on: then it has done nothing.
const (
	notThere = "NotFound)"
	noTag    = "there is no tag"
)

// newCanary makes a text that no program makes by itself.
func newCanary() string {
	var raw [12]byte
	_, _ = rand.Read(raw[:])
	return "Canary" + hex.EncodeToString(raw[:]) + "Yranac"
}

// shelved says an operation on parameters for people.
func (a Ask) shelved() string {
	out := strings.Join(append(slices.Clone(a.Names), a.Name), " ")
	if a.Label != "" {
		out += " label " + a.Label
	}
	if a.Ref != 0 {
		out += fmt.Sprintf(" after %d", a.Ref)
	}
	return strings.TrimSpace(out)
}

// value returns what an operation puts as a parameter, which no other puts.
func (a Ask) value(name, canary string) string {
	if slices.Contains(sealedNames(), name) {
		return fmt.Sprintf("%s-%d", canary, a.Op)
	}
	return fmt.Sprintf("op %d of %s", a.Op, name)
}

// puts lists the names that an operation puts.
func (a Ask) puts() []string {
	switch a.Kind {
	case AskPut, AskCAS, AskSecret:
		return []string{a.Name}
	case AskImport:
		return a.Names
	case AskRun, AskCancel, AskTag, AskUntag, AskToken, AskUntoken, AskList, AskShow, AskNodes, AskDelete, AskLabel, AskRotate, AskGet, AskOpen:
	}
	return nil
}

// stdin returns what an operation has as its standard input: secrets are not arguments.
func (a Ask) stdin(canary string) string {
	switch a.Kind {
	case AskSecret:
		return a.value(a.Name, canary)
	case AskImport:
		type parameter struct{ Name, Type, Value string }
		var all struct{ Parameters []parameter }
		for _, name := range a.Names {
			one := parameter{name, "String", a.value(name, canary)}
			if slices.Contains(sealedNames(), name) {
				one.Type = "SecureString"
			}
			all.Parameters = append(all.Parameters, one)
		}
		raw, _ := json.Marshal(all)
		return string(raw)
	case AskRun, AskCancel, AskTag, AskUntag, AskToken, AskUntoken, AskList, AskShow, AskNodes, AskPut, AskCAS, AskDelete, AskLabel, AskRotate, AskGet, AskOpen:
	}
	return ""
}

// shelfArgs returns the command line of an operation on parameters.
func (a Ask) shelfArgs(ref came) []string {
	out := []string{"-o", "json", "param"}
	switch a.Kind {
	case AskPut:
		out = append(out, "put", a.Name, a.value(a.Name, ""), "--overwrite")
		if a.Label != "" {
			out = append(out, "--label", a.Label)
		}
		if a.LastsMS != 0 {
			out = append(out, "--expires", ms(a.LastsMS).String())
		}
	case AskCAS:
		out = append(out, "put", a.Name, a.value(a.Name, ""), "--if-version", fmt.Sprint(ref.version))
	case AskSecret:
		out = append(out, "put", a.Name, "--stdin", "--overwrite", "--type", "SecureString", "--readers", "keyring:"+ringName)
	case AskImport:
		out = append(out, "import", "-", "--overwrite", "--readers", "keyring:"+ringName)
	case AskDelete:
		out = append(out, "delete", a.Name)
	case AskLabel:
		out = append(out, "label", a.Name, fmt.Sprint(ref.version), a.Label)
	case AskGet:
		out = append(out, "get", a.Name)
	case AskOpen:
		out = append(out, "get", a.Name, "--decrypt", "--as-host")
	case AskRotate:
		return []string{"-o", "json", "keyring", "rotate", ringName, "--wait", "0s"}
	case AskRun, AskCancel, AskTag, AskUntag, AskToken, AskUntoken, AskList, AskShow, AskNodes:
	}
	return out
}

// told returns the flags by which a command is told its operation and parameters.
func (a Ask) told() []string {
	if a.Body == Reads {
		return []string{"--doc", docName} // which has values in the place of an environment
	}
	out := []string{"--env", fmt.Sprintf("%s=%d", opVar, a.Op)}
	if a.Name != "" {
		out = append(out, "--env", plainVar+"={{ ssm:"+a.Name+" }}")
	}
	if a.Sealed != "" {
		out = append(out, "--env", sealedVar+"={{ ssm-secure:"+a.Sealed+" }}")
	}
	return out
}

// The document that is told parameters: a plain one by its value, a secret by its own text.
const (
	docName   = "ChaosTells"
	docOp     = "op"
	docTold   = "told"
	docSecret = "/chaos/sealed/a"
)

// document returns its text. Its notes are those of a body.
func document() string {
	return `schemaVersion: "2.2"
parameters:
  ` + docOp + `: {type: String}
  ` + docTold + `: {type: String}
mainSteps:
- name: tells
  action: aws:runShellScript
  inputs:
    runCommand:
    - O="{{ ` + docOp + ` }}"
    - n() { echo "$1 $(date +%s%N) $MUSTER_COMMAND_ID $MUSTER_NODE $O $$ $2" >> ` + notes + `; }
    - n start "document-$O"
    - P=$(printf %s "{{ ` + docTold + ` }}" | md5sum)
    - S=$(printf %s "{{ ssm-secure:` + docSecret + ` }}" | md5sum)
    - n told "${P%% *}${S%% *}"
    - echo "op $O on $MUSTER_NODE"
    - n end 0
`
}

// shown is a parameter's version as the command line prints it.
type shown struct {
	Name    string
	Version uint32
	Value   *string
	Labels  []string
	AgeMS   int64 `json:"age_ms"` // of an answer that is not of now
}

// versionOf returns the version of the parameter that a command line printed, or 0.
func versionOf(r Result) uint32 {
	var one shown
	if readJSON(r.Stdout, &one) != nil {
		return 0
	}
	return one.Version
}

// versionsOf returns the versions that an import made, by name.
func versionsOf(r Result) map[string]uint32 {
	var all struct{ Parameters []shown }
	out := map[string]uint32{}
	if readJSON(r.Stdout, &all) != nil {
		return out
	}
	for _, one := range all.Parameters {
		out[one.Name] = one.Version
	}
	return out
}

// readHistory reads a parameter's versions, which are printed newest first.
func readHistory(text, by string) (check.ParamSeen, error) {
	var all []shown
	if err := readJSON(text, &all); err != nil {
		return check.ParamSeen{}, fmt.Errorf("param history: %w", err)
	}
	out := check.ParamSeen{By: by}
	for _, one := range slices.Backward(all) {
		out.Versions = append(out.Versions, one.seen())
	}
	return out, nil
}

func (one shown) seen() check.VersionSeen {
	out := check.VersionSeen{Number: one.Version, Labels: one.Labels}
	if one.Value != nil {
		out.Value = *one.Value
	}
	return out
}

// readParams reads the newest versions of many parameters, by name.
func readParams(text string) (map[string]check.ParamSeen, error) {
	var all []shown
	if err := readJSON(text, &all); err != nil {
		return nil, fmt.Errorf("param get: %w", err)
	}
	out := map[string]check.ParamSeen{}
	for _, one := range all {
		out[one.Name] = check.ParamSeen{Part: true, Versions: []check.VersionSeen{one.seen()}}
	}
	return out, nil
}
