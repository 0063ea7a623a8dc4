package steps

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestOpenPutsSecretsIn: into the environment as they are, into JSON so that they come out of it as they are.
func TestOpenPutsSecretsIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secrets := [][]byte{[]byte(rapid.String().Draw(t, "a")), []byte(rapid.String().Draw(t, "b"))}
		s := Step{Act: "x", Env: []string{"A=1"}, Secrets: []Filled{{"B", []Part{{Text: "<"}, {Secret: 2}, {Text: ">"}, {Secret: 1}}}},
			Fill: []Part{{Text: `{"k":"`}, {Secret: 1}, {Text: `-`}, {Secret: 2}, {Text: `"}`}}}
		got, err := s.Open(secrets)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"A=1", "B=<" + string(secrets[1]) + ">" + string(secrets[0])}; !slices.Equal(got.Env, want) {
			t.Fatalf("%q", got.Env)
		}
		var in struct{ K string }
		if err := json.Unmarshal(got.Inputs, &in); err != nil || in.K != string(secrets[0])+"-"+string(secrets[1]) {
			t.Fatalf("%s, %v", got.Inputs, err)
		}
		if len(s.Env) != 1 || s.Inputs != nil || len(got.Secrets)+len(got.Fill) > 0 {
			t.Fatal("the plan's own step was changed, or the opened one goes on to refer")
		}
	})
}

// What is no text comes out of JSON as JSON has it, and never as more JSON.
func TestABrokenSecretBreaksOutOfNothing(t *testing.T) {
	s := Step{Act: "x", Fill: []Part{{Text: `{"k":"`}, {Secret: 1}, {Text: `","safe":true}`}}}
	for _, value := range []string{"\xff\"", `","safe":false,"x":"`, "\\", "</script>", "\u2028"} {
		got, err := s.Open([][]byte{[]byte(value)})
		var in map[string]any
		if err == nil {
			err = json.Unmarshal(got.Inputs, &in)
		}
		if err != nil || in["safe"] != true || utf8.ValidString(value) && in["k"] != value {
			t.Errorf("%q: %s, %v", value, got.Inputs, err)
		}
	}
}

func TestSecretsThatAreNotThere(t *testing.T) {
	for _, s := range []Step{
		{Argv: []string{"x"}, Secrets: []Filled{{"A", []Part{{Secret: 3}}}}},
		{Argv: []string{"x"}, Secrets: []Filled{{"A", []Part{{Secret: 1 << 31}}}}},
		{Act: "x", Fill: []Part{{Secret: 3}}},
	} {
		if _, err := s.Open([][]byte{nil, nil}); err == nil {
			t.Errorf("%+v was opened", s)
		}
		if err := (Plan{Steps: []Step{s}}).CheckSecrets(2); err == nil || !strings.Contains(err.Error(), "the run has 2") {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, s := range []Step{
		{Secrets: []Filled{{Name: ""}}}, {Secrets: []Filled{{Name: "A=B"}}}, {Fill: []Part{{Text: "x"}}}, {Act: "x", Inputs: []byte("{}"), Fill: []Part{{Text: "x"}}},
	} {
		if (Plan{Steps: []Step{s}}).CheckSecrets(2) == nil {
			t.Errorf("%+v is in order", s)
		}
	}
	if out := (Plan{Steps: []Step{{Name: "a", Secrets: []Filled{{"A", []Part{{Text: "x"}}}}, Fill: []Part{{Text: "x"}}}}}).Outline(); len(out.Steps[0].Secrets)+len(out.Steps[0].Fill) > 0 {
		t.Error("an outline keeps what it does not need")
	}
}
