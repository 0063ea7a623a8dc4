package document

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/exec/steps"
	"github.com/muster-fleet/muster/node/fleet"
)

// A plan is made without its secrets. Where one belongs, a word stands that cannot be in any text by chance; when a step is
// ready, its environment and the input of its action are cut apart at these words, and one that is found elsewhere refuses
// the step: whatever way a secret went, it comes out where it may, or nowhere.

var errMarker = fleet.Errorf(fleet.Invalid, "a text holds what stands for a secret")

// word stands for a secret.
func (s *Store) word(index int) string { return s.marker + strconv.Itoa(index) + "." }

// hides reports whether a secret is somewhere in a text.
func (s *Store) hides(text string) bool { return s != nil && strings.Contains(text, s.marker) }

func (s *Store) hidesAny(texts ...string) bool { return slices.ContainsFunc(texts, s.hides) }

// hidesIn reports whether a secret is anywhere in a piece of a document.
func (b *builder) hidesIn(n *node) bool {
	if n == nil {
		return false
	}
	return b.d.store.hides(n.text) || slices.ContainsFunc(n.items, b.hidesIn)
}

// salt is for the stores of nested documents, so that their markers are others.
func (s *Store) salt() string {
	sum := sha256.Sum256([]byte(s.marker))
	return hex.EncodeToString(sum[:])
}

// parts cuts a text apart at its secrets.
func (s *Store) parts(text string) ([]steps.Part, error) {
	var out []steps.Part
	for {
		before, rest, found := strings.Cut(text, s.marker)
		if before != "" {
			out = append(out, steps.Part{Text: before})
		}
		if !found {
			return out, nil
		}
		number, after, ok := strings.Cut(rest, ".")
		index, err := strconv.ParseUint(number, 10, 16)
		if !ok || err != nil || index == 0 || int(index) > s.secrets() {
			return nil, errMarker
		}
		out = append(out, steps.Part{Secret: uint32(index)})
		text = after
	}
}

// secretAt returns a secret by its number, which parts gave.
func (s *Store) secretAt(number uint32) Pinned {
	for _, p := range s.all {
		if p.Secret {
			number--
		}
		if p.Secret && number == 0 {
			return p
		}
	}
	return Pinned{}
}

// secrets returns how many secrets were pinned.
func (s *Store) secrets() int {
	n := 0
	for _, p := range s.all {
		if p.Secret {
			n++
		}
	}
	return n
}

// split sorts an environment into what is known and what has secrets in it. The last entry of a name counts.
func (s *Store) split(env []string) (plain []string, secret []steps.Filled, err error) {
	for i, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		again := slices.ContainsFunc(env[i+1:], func(later string) bool { return strings.HasPrefix(later, name+"=") })
		switch {
		case again && s.hidesAny(env...): // otherwise whoever starts the process sees to it
		case !s.hides(entry):
			plain = append(plain, entry)
		case s.hides(name):
			return nil, nil, fleet.Errorf(fleet.Invalid, "a secret in the name of an environment variable")
		default:
			parts, err := s.parts(value)
			if err != nil {
				return nil, nil, err
			}
			secret = append(secret, steps.Filled{Name: name, Parts: parts})
		}
	}
	return plain, secret, nil
}

// release takes the secrets out of a step that is ready: they are referred to in its environment and its input, and
// refused elsewhere.
func (b *builder) release(out *steps.Step) error {
	s := b.d.store
	if s == nil || b.r.trial {
		return nil
	}
	if s.hidesAny(slices.Concat(out.Argv, out.Interpreter, []string{string(out.Script), out.ScriptName, out.Dir, out.Name, out.Action, out.Act, out.Why})...) {
		return b.noSecret(b.s.line, "in the words of a command, in a script's text or in the name of a folder")
	}
	var err error
	if out.Env, out.Secrets, err = s.split(out.Env); err != nil {
		return refuse(b.s.line, "%s: %w", b.s.of(), err)
	}
	if !s.hides(string(out.Inputs)) {
		return nil
	}
	if out.Act != ActDownload && out.Act != ActDocument {
		return b.noSecret(b.s.line, "in the inputs of "+string(b.s.action))
	}
	parts, err := s.parts(string(out.Inputs))
	if err != nil {
		return refuse(b.s.line, "%s: %w", b.s.of(), err)
	}
	out.Inputs, out.Fill = nil, parts
	return nil
}

// noSecret is the refusal of a secret.
func (b *builder) noSecret(line int, where string) *fleet.Error {
	return refuse(line, "%s: a secret %s: others on the host could read it there", b.s.of(), where).
		Hinted("use it as an environment variable (environment: {PASSWORD: \"{{ ssm-secure:NAME }}\"}) or in a script")
}

// checkSecrets refuses references to secrets where no secret may come, with the line.
func (d *Document) checkSecrets() error {
	for _, s := range d.steps {
		b := builder{d: d, s: s}
		for i, k := range s.flow.keys {
			if k.text != "inputs" && s.inputs != s.flow.items[i] {
				if line, found := s.flow.items[i].secretLine(); found {
					return b.noSecret(line, "in "+k.text)
				}
			}
		}
		for i, k := range s.inputs.keys {
			if err := b.checkSecretIn(k.text, s.inputs.items[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSecretIn looks at one input of a step.
func (b *builder) checkSecretIn(input string, n *node) error {
	line, found := n.secretLine()
	if !found {
		return nil
	}
	switch {
	case input == "environment" && b.s.action.runs():
		return nil
	case input == "runCommand" && b.s.action.runs():
		if r, ok, _ := wholeRef(n.joined()); ok && r.Secure {
			return b.noSecret(line, "as a script, which is a file")
		}
		return nil
	case input == "sourceInfo" && b.s.action == downloadContent, input == "documentParameters" && b.s.action == runDocument:
		return nil // its parts are looked at when they are read
	}
	return b.noSecret(line, "in "+input)
}

// runs reports whether the action starts a program with an environment.
func (a action) runs() bool {
	return a == runShellScript || a == runPowerShellScript || a == runArgv
}

// joined returns a text, or the texts of a list, one a line.
func (n *node) joined() string {
	if n.shape == scalar {
		return n.text
	}
	var out []string
	for _, c := range n.items {
		out = append(out, c.text)
	}
	return strings.Join(out, "\n")
}

// secretLine finds the first reference to a secret.
func (n *node) secretLine() (line int, found bool) {
	if n.shape == scalar {
		all, _ := textRefs(n.text)
		return n.line, slices.ContainsFunc(all, func(r StoreRef) bool { return r.Secure })
	}
	for _, c := range n.items {
		if line, found := c.secretLine(); found {
			return line, true
		}
	}
	return 0, false
}

// checkDownload lets secrets be keys of a source, and nothing else: what is fetched from where is told to others.
func (b *builder) checkDownload(f *form, in Download) error {
	if b.d.store == nil || b.r.trial || f.err != nil {
		return nil
	}
	in.Source.TokenInfo, in.Source.Password, in.Source.PrivateSSHKey = "", "", ""
	text, err := json.Marshal(in)
	if err == nil && b.d.store.hides(string(text)) {
		return b.noSecret(b.s.line, "in another key of sourceInfo than tokenInfo, password and privateSSHKey")
	}
	return err
}
