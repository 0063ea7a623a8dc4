package main

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// valueSource is where a parameter's value comes from.
type valueSource struct {
	file     string
	stdin    bool
	generate uint32 // characters
	keep     bool   // that of the version before
}

func (v *valueSource) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&v.file, "file", "", "the value is what this file has, to the byte")
	flags.BoolVar(&v.stdin, "stdin", false, "the value comes from standard input; a line's end behind it is not part of it")
	flags.Uint32Var(&v.generate, "generate", 0, "the value is so many random letters and digits, which nobody sees")
	flags.BoolVar(&v.keep, "keep", false, "the value stays: a new version for other readers, another description")
}

// check wants exactly one source, or none, which is the terminal.
func (v valueSource) check(args []string) error {
	given := 0
	for _, is := range []bool{len(args) > 0, v.file != "", v.stdin, v.generate != 0, v.keep} {
		if is {
			given++
		}
	}
	if given > 1 {
		return fleet.Errorf(fleet.Invalid, "more than one value").Hinted("one of VALUE, --file, --stdin, --generate and --keep")
	}
	if v.generate > params.MaxAdvanced {
		return fleet.Errorf(fleet.Invalid, "--generate %d: a value has at most %d bytes", v.generate, params.MaxAdvanced)
	}
	return nil
}

// read reads the value, but for --keep.
func (v valueSource) read(a *app, name string, args []string) ([]byte, error) {
	switch {
	case len(args) > 0:
		return []byte(args[0]), nil
	case v.file != "":
		return readFileTo(params.MaxAdvanced, "--file", v.file)
	case v.stdin:
		raw, err := readTo(params.MaxAdvanced+2, a.stdin, "standard input")
		if line, ok := bytes.CutSuffix(raw, []byte("\n")); ok {
			raw = bytes.TrimSuffix(line, []byte("\r"))
		}
		return raw, err
	case v.generate != 0:
		return generated(int(v.generate)), nil
	case !isTerminal(a.stdin):
		return nil, fleet.Errorf(fleet.Invalid, "no value for %s", name).Hinted("VALUE, --file FILE, --stdin or --generate 32")
	}
	text, err := a.askSecret("value of " + name + " (it is not shown): ")
	if err != nil {
		return nil, err
	}
	again, err := a.askSecret("once more: ")
	if err == nil && again != text {
		err = fleet.Errorf(fleet.Invalid, "the two differ: nothing was put")
	}
	return []byte(text), err
}

// readFileTo reads all of a file, which may have so many bytes.
func readFileTo(most int, flag, path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fleet.Errorf(fleet.Invalid, "%s: %w", flag, err)
	}
	defer file.Close()
	return readTo(most, file, path)
}

func readTo(most int, r io.Reader, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	switch {
	case err != nil:
		return nil, fleet.Errorf(fleet.Invalid, "cannot read %s: %w", what, err)
	case len(raw) > most:
		return nil, fleet.Errorf(fleet.Exhausted, "%s has more than %d bytes", what, most)
	}
	return raw, nil
}

// letters is what generated values are made of: what needs no quoting anywhere.
const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// generated returns n characters, each of the same likelihood.
func generated(n int) []byte {
	const fair = 256 / len(letters) * len(letters) // bytes above it would favour the first letters
	out := make([]byte, 0, n)
	for raw := make([]byte, 64); len(out) < n; {
		rand.Read(raw)
		for _, b := range raw {
			if int(b) < fair && len(out) < n {
				out = append(out, letters[int(b)%len(letters)])
			}
		}
	}
	return out
}
