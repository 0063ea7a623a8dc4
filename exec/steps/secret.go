package steps

import (
	"encoding/json"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Filled is an environment variable with secrets in its value.
type Filled struct {
	Name  string
	Parts []Part
}

// Part is a piece of a text: known, or a secret of the run, by its number.
type Part struct {
	Text   string
	Secret uint32 // from 1; 0: none, the piece is Text
}

// Size returns how many bytes of a text are known.
func Size(parts []Part) int {
	n := 0
	for _, p := range parts {
		n += len(p.Text)
	}
	return n
}

// text returns the whole text; form brings a secret into the form that its place asks for.
func text(parts []Part, secrets [][]byte, form func(string) string) (string, error) {
	var out strings.Builder
	for _, p := range parts {
		switch {
		case p.Secret == 0:
			out.WriteString(p.Text)
		case int(p.Secret) > len(secrets):
			return "", fleet.Errorf(fleet.Invalid, "the plan refers to secret %d; the run has %d", p.Secret, len(secrets))
		default:
			out.WriteString(form(string(secrets[p.Secret-1])))
		}
	}
	return out.String(), nil
}

// Environment returns NAME=VALUE entries with the secrets in them.
func Environment(env []Filled, secrets [][]byte) ([]string, error) {
	out := make([]string, 0, len(env))
	for _, e := range env {
		value, err := text(e.Parts, secrets, func(s string) string { return s })
		if err != nil {
			return nil, err
		}
		out = append(out, e.Name+"="+value)
	}
	return out, nil
}

// Open returns the step with its secrets put in: for whoever starts its process, and nobody else.
func (s Step) Open(secrets [][]byte) (Step, error) {
	more, err := Environment(s.Secrets, secrets)
	if err != nil {
		return Step{}, err
	}
	s.Env, s.Secrets = append(s.Env[:len(s.Env):len(s.Env)], more...), nil
	if len(s.Fill) == 0 {
		return s, nil
	}
	inputs, err := text(s.Fill, secrets, inJSON)
	if err != nil {
		return Step{}, err
	}
	s.Inputs, s.Fill = []byte(inputs), nil
	return s, nil
}

// inJSON returns a text as it stands within the quotes of a JSON string.
func inJSON(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(quoted[1 : len(quoted)-1])
}

// checkSecrets reports why a step's secrets cannot be put in.
func (s Step) checkSecrets(secrets int) error {
	all := append([]Filled{{Name: "inputs", Parts: s.Fill}}, s.Secrets...)
	for _, f := range all {
		if f.Name == "" || strings.ContainsAny(f.Name, "=\x00") {
			return fleet.Errorf(fleet.Invalid, "a secret for an environment variable %q", f.Name)
		}
		for _, p := range f.Parts {
			if int64(p.Secret) > int64(secrets) || strings.ContainsRune(p.Text, 0) {
				return fleet.Errorf(fleet.Invalid, "%s refers to secret %d; the run has %d", f.Name, p.Secret, secrets)
			}
		}
	}
	if len(s.Fill) > 0 && (s.Act == "" || len(s.Inputs) > 0) {
		return fleet.Errorf(fleet.Invalid, "inputs in parts are for an act, and are all of them")
	}
	return nil
}

// CheckSecrets reports why a run with so many secrets cannot put them into the plan, or nil.
func (p Plan) CheckSecrets(secrets int) error {
	for i, s := range p.Steps {
		if err := s.checkSecrets(secrets); err != nil {
			return s.at(i, err)
		}
	}
	return nil
}
