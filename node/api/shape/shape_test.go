package shape

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// TestIDs: in full on the API's wire, short for people; only the full form is read.
func TestIDs(t *testing.T) {
	t.Parallel()
	id := fleet.Sum([]byte("x"))
	full, err := Marshal(Named{id, "x"})
	if want := `{"id":"` + id.Text() + `","name":"x"}`; err != nil || string(full) != want {
		t.Errorf("%s, %v", full, err)
	}
	short, err := json.Marshal(Named{id, "x"})
	if want := `{"id":"` + id.String() + `","name":"x"}`; err != nil || string(short) != want {
		t.Errorf("%s, %v", short, err)
	}
	var back Named
	if err := Unmarshal(full, &back); err != nil || back.ID != id {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{string(short), `{"id":1}`, `{"id":null}`, `{"id":"` + strings.ToUpper(id.Text()) + `"}`} {
		if err := Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestEmpty: lists and maps are there when they are empty, in both forms.
func TestEmpty(t *testing.T) {
	t.Parallel()
	for _, v := range []any{OfStatus(node.Status{}), OfAnswer(node.Answer{}), OfNode(fleet.Member{}, 0), OfToken(node.TokenInfo{Body: auth.Token{Join: []byte{1}}}), OfCommand(node.CommandInfo{})} {
		full, err := Marshal(v)
		short, err2 := json.Marshal(v)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		for _, text := range []string{string(full), string(short)} {
			if strings.Contains(strings.ReplaceAll(text, `"leader":null`, ""), "null") {
				t.Errorf("null in %s", text)
			}
		}
	}
}

// TestSSM: every status has Systems Manager's words, and none that promises a success but a success.
func TestSSM(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of              exec.Status
		reachable       bool
		status, details string
	}{
		{exec.Pending, true, "Pending", "Pending"}, {exec.Pending, false, "Delayed", "Delayed"}, {exec.InProgress, false, "InProgress", "InProgress"},
		{exec.Success, true, "Success", "Success"}, {exec.Skipped, true, "Success", "Success"}, {exec.Failed, true, "Failed", "Failed"},
		{exec.TimedOut, true, "TimedOut", "ExecutionTimedOut"}, {exec.Cancelled, true, "Cancelled", "Cancelled"},
		{exec.DeliveryTimedOut, false, "TimedOut", "DeliveryTimedOut"}, {exec.Undeliverable, false, "Failed", "Undeliverable"},
		{exec.Refused, true, "Failed", "AccessDenied"}, {exec.Terminated, true, "Cancelled", "Terminated"},
		{exec.InvalidPlatform, true, "Failed", "InvalidPlatform"}, {exec.Unknown, false, "Failed", "Unknown"}, {"Later", true, "Failed", "Later"},
	} {
		if status, details := SSM(c.of, c.reachable); status != c.status || details != c.details {
			t.Errorf("%s: %s, %s", c.of, status, details)
		}
	}
}

// TestAsk: a request with anything that this version does not know is refused; an answer is not.
func TestAsk(t *testing.T) {
	t.Parallel()
	var e Entry
	if err := Ask(strings.NewReader(`{"entry":"AA==","later":1}`), &e); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("got %v", err)
	}
	if err := Unmarshal([]byte(`{"entry":"AA==","later":1}`), &e); err != nil || len(e.Entry) != 1 {
		t.Errorf("got %v", err)
	}
}
