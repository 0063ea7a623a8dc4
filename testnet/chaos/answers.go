package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/testnet/check"
)

// opVar is the variable by which a command is known for the operation that asked for it, also where its sender was told
// nothing. opTag does the same for tokens.
const (
	opVar = "CHAOS_OP"
	opTag = "chaos-op"
)

// args returns the command line of an operation. ref is what the operation that it is about came to.
func (a Ask) args(ref came) []string {
	switch a.Kind {
	case AskRun:
		out := append([]string{"-o", "json", "run", "--yes", "--timeout", ms(a.TimeoutMS).String(), "--expires", ms(a.ExpiresMS).String()}, a.told()...)
		if !a.Wait {
			out = append(out, "--async")
		}
		if a.Pace != nil {
			out = append(out, "--max-concurrency", strconv.Itoa(a.Pace.Concurrency), "--max-errors", strconv.Itoa(a.Pace.Errors))
			if a.Pace.Strict {
				out = append(out, "--strict")
			}
		}
		if target := a.target(); target == "all" {
			out = append(out, "--all")
		} else {
			out = append(out, "--target", target)
		}
		if a.Body == Reads {
			return append(out, "--", docOp+"="+strconv.Itoa(a.Op), docTold+"={{ssm:"+a.Name+"}}")
		}
		return append(out, "--", a.script())
	case AskCancel:
		return []string{"-o", "json", "command", "cancel", ref.id.String()}
	case AskShow:
		return []string{"-o", "json", "command", "show", ref.id.String()}
	case AskPut, AskCAS, AskImport, AskDelete, AskLabel, AskSecret, AskGet, AskOpen, AskRotate:
		return a.shelfArgs(ref)
	case AskList:
		return []string{"-o", "json", "command", "list"}
	case AskNodes:
		return []string{"-o", "json", "node", "list"}
	case AskTag:
		return []string{"-o", "json", "node", "tag", a.Node, a.Key + "=" + a.Value}
	case AskUntag:
		return []string{"-o", "json", "node", "tag", a.Node, a.Key + "-"}
	case AskToken:
		return []string{"-o", "json", "token", "create", "--tag", fmt.Sprintf("%s=%d", opTag, a.Op)}
	case AskUntoken:
		return []string{"-o", "json", "token", "delete", ref.id.String()}
	}
	return nil
}

// came is what an operation came to.
type came struct {
	ack     check.Ack
	id      fleet.UUID // of a command or a token, if its sender was told
	version uint32     // of a parameter that was put or shown
	skipped bool       // what it is about never came to be
}

// What says for certain that nothing was done: exit codes of muster, and a host that did not run it.
const (
	hostOff     = "is switched off" // with no exit code
	exitFailed  = 1                 // with notThere or noTag
	exitUsage   = 2
	exitRefused = 3
)

// ackOf judges what a command line's end says about whether the fleet has taken what was asked.
func ackOf(kind AskKind, r Result) (check.Ack, fleet.UUID) {
	id := idOf(r.Stdout)
	switch {
	case kind == AskRun && !id.IsZero(): // also where its nodes failed or are unknown
		return check.Accepted, id
	case r.Code == 0:
		return check.Accepted, id
	case r.Code < 0 && r.Stdout == "" && strings.HasSuffix(strings.TrimSpace(r.Stderr), hostOff): // it was never started
		return check.Refused, fleet.UUID{}
	case r.Code == exitRefused || r.Code == exitUsage || r.Code == exitFailed && (strings.Contains(r.Stderr, notThere) || strings.Contains(r.Stderr, noTag)):
		return check.Refused, fleet.UUID{}
	}
	if m := hinted.FindStringSubmatch(r.Stderr); m != nil {
		id, _ = fleet.ParseUUID(m[1])
	}
	return check.InDoubt, id
}

// hinted finds the ID that the command line names when it does not know whether the fleet has taken a command.
var hinted = regexp.MustCompile(`muster command show ([0-9a-f-]{36})`)

func idOf(text string) fleet.UUID {
	var out struct{ ID string }
	if json.Unmarshal([]byte(text), &out) != nil {
		return fleet.UUID{}
	}
	id, _ := fleet.ParseUUID(out.ID)
	return id
}

// listed is one command in the fleet's list.
type listed struct {
	ID      fleet.UUID
	Issued  time.Time
	Expires time.Time
	Count   int
	Run     struct {
		Argv   []string
		Env    []string
		Values []struct{ Name, Value string } // as JSON
	}
}

// op returns the operation that asked for the command, or 0.
func (l listed) op() int {
	for _, e := range l.Run.Env {
		if n, ok := strings.CutPrefix(e, opVar+"="); ok {
			op, _ := strconv.Atoi(n)
			return op
		}
	}
	for _, v := range l.Run.Values {
		if v.Name == docOp {
			op, _ := strconv.Atoi(strings.Trim(v.Value, `"`))
			return op
		}
	}
	return 0
}

func readList(text string) ([]listed, error) {
	var out []listed
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("command list: %w", err)
	}
	return out, nil
}

func idsOf(list []listed) map[fleet.UUID]bool {
	out := map[fleet.UUID]bool{}
	for _, l := range list {
		out[l.ID] = true
	}
	return out
}

// readReports reads what command show, or a run that was waited for, says of each node. By is who said it.
func readReports(text, by string) ([]check.Report, error) {
	var shown struct {
		ID    fleet.UUID
		Nodes []struct {
			Name     string
			Status   exec.Status
			ExitCode *int `json:"exit_code"`
			Signal   string
			Detail   string
			Stdout   struct {
				Size               int64
				Text, Tail, Base64 string
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &shown); err != nil {
		return nil, fmt.Errorf("command show: %w", err)
	}
	var out []check.Report
	for _, n := range shown.Nodes {
		said := check.Output{Size: n.Stdout.Size, Head: n.Stdout.Text, Tail: n.Stdout.Tail}
		if raw, err := base64.StdEncoding.DecodeString(n.Stdout.Base64); err == nil && len(raw) > 0 {
			said.Head = string(raw)
		}
		out = append(out, check.Report{Command: shown.ID, Node: n.Name, By: by, Status: n.Status, Exit: n.ExitCode, Signal: n.Signal, Detail: n.Detail, Stdout: &said})
	}
	return out, nil
}

// readTags reads all tags of ours that node list shows.
func readTags(text string, into map[string]string) error {
	var nodes []struct {
		Name string
		Tags map[string]string
	}
	if err := json.Unmarshal([]byte(text), &nodes); err != nil {
		return fmt.Errorf("node list: %w", err)
	}
	for _, n := range nodes {
		for k, v := range n.Tags {
			if strings.HasPrefix(k, "chaos-") {
				into[tagName(n.Name, k)] = v
			}
		}
	}
	return nil
}

func tagName(node, key string) string { return "tag " + key + " of " + node }

func tokenName(op int) string { return fmt.Sprintf("token %d", op) }

// readTokens reads all tokens of ours that token list shows.
func readTokens(text string, into map[string]string) error {
	var tokens []struct {
		ID   string
		Tags map[string]string
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil {
		return fmt.Errorf("token list: %w", err)
	}
	for _, t := range tokens {
		if op, ok := t.Tags[opTag]; ok {
			into["token "+op] = "there"
		}
	}
	return nil
}

// readReplica reads quorum status: what this host's replica has come to; ok is false where it keeps none.
func readReplica(text, node string) (r check.Replica, ok bool) {
	var q struct {
		Replica *struct {
			Act    uint64
			Digest string
		}
	}
	if json.Unmarshal([]byte(text), &q) != nil || q.Replica == nil {
		return r, false
	}
	return check.Replica{Node: node, Act: q.Replica.Act, Digest: q.Replica.Digest}, true
}

// readLeader reads quorum status: who leads, or "".
func readLeader(text string) string {
	var q struct{ Leader *struct{ Name string } }
	if json.Unmarshal([]byte(text), &q) != nil || q.Leader == nil {
		return ""
	}
	return q.Leader.Name
}

// readSight reads status: whom a host sees.
func readSight(r Result) string {
	var s struct {
		Nodes  struct{ Online, Lost, Left int }
		Quorum struct {
			Leader *struct{ Name string }
			Voters []struct{ Name string }
		}
	}
	if json.Unmarshal([]byte(r.Stdout), &s) != nil {
		return fmt.Sprintf("status exits %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	leader := "nobody"
	if s.Quorum.Leader != nil {
		leader = s.Quorum.Leader.Name
	}
	return fmt.Sprintf("it sees %d online, %d lost, %d left, %d voters led by %s", s.Nodes.Online, s.Nodes.Lost, s.Nodes.Left, len(s.Quorum.Voters), leader)
}

// readLevel reads status: what the agent's process takes.
func readLevel(text, node string, life int) (l check.Level, ok bool) {
	var s struct {
		Agent struct {
			RSS        int64 `json:"rss_bytes"`
			Goroutines int
			Files      int
		}
	}
	if json.Unmarshal([]byte(text), &s) != nil || s.Agent.Goroutines == 0 {
		return l, false
	}
	return check.Level{Node: node, Life: life, Goroutines: s.Agent.Goroutines, FDs: s.Agent.Files, RSS: s.Agent.RSS}, true
}

// commandVar is where every run finds its command's ID.
const commandVar = "MUSTER_COMMAND_ID="

// owner says which command a process belongs to. ids are of the commands by operation.
func (p Process) owner(ids map[int]fleet.UUID) (id fleet.UUID, supervisor, ours bool) {
	for _, e := range p.Environ {
		if text, ok := strings.CutPrefix(e, commandVar); ok {
			id, err := fleet.ParseUUID(text)
			return id, false, err == nil
		}
	}
	if len(p.Argv) > 1 {
		if id, err := fleet.ParseUUID(p.Argv[len(p.Argv)-1]); err == nil && p.Argv[1] == "supervise" {
			return id, true, true
		}
	}
	for _, word := range p.Argv {
		if seconds, ok := strings.CutPrefix(word, "0."); ok && len(seconds) == 6 && strings.HasSuffix(p.Argv[0], "sleep") {
			op, err := strconv.Atoi(seconds)
			return ids[op], false, err == nil && !ids[op].IsZero()
		}
	}
	return fleet.UUID{}, false, false
}

// readJSON reads what a command line printed.
func readJSON(text string, v any) error { return json.Unmarshal([]byte(text), v) }
