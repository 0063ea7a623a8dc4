package consensus

import (
	"errors"
	"slices"
	"time"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Apply returns the state after one entry, and what the entry came to. Every replica computes the same. now is the
// leader's stamp; the state's time never goes back.
func (s State) Apply(e Entry, now int64) (State, Result) {
	next := s
	next.Time = max(s.Time, now)
	id, known := statementID(e)
	if first, ok := s.results.Get(id[:]); known && ok {
		return s, first
	}
	next.Act++
	result := Result{Act: next.Act, Time: next.Time}
	if err := next.take(e); err != nil {
		result = refusal(err, next.Time)
		next = s // a refused entry leaves nothing but its time
		next.Time = max(s.Time, now)
		return next, result
	}
	if known {
		next.remember(id, result)
	}
	return next, result
}

func refusal(err error, at int64) Result {
	r := Result{Time: at, Kind: fleet.KindOf(err), Why: err.Error()}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		r.Hint = e.Hint
	}
	return r
}

// statementID returns the ID under which a repetition is known. A refused statement is not remembered: it may hold
// later (a name that became free), and refusing it again costs nothing.
func statementID(e Entry) (fleet.UUID, bool) {
	switch e := e.(type) {
	case PutAct:
		sum := fleet.Sum(append([]byte{byte(e.Kind)}, e.Data...))
		return fleet.UUID(sum[:16]), e.Kind != auth.ActGossipEpoch
	case PutToken:
		return peekID(auth.Peek[auth.Token](e.Statement))
	case DeleteToken:
		return peekID(auth.Peek[auth.DeleteToken](e.Statement))
	case PutCommand:
		return peekID(auth.Peek[exec.Command](e.Statement))
	case PutCancel:
		return peekID(auth.Peek[exec.Cancel](e.Statement))
	case PutRequest:
		return e.Request.Nonce, true
	}
	return fleet.UUID{}, false
}

func peekID[T any](body T, err error) (fleet.UUID, bool) {
	if err != nil {
		return fleet.UUID{}, false
	}
	switch b := any(body).(type) {
	case auth.Token:
		return b.Header.ID, true
	case auth.DeleteToken:
		return b.Header.ID, true
	case exec.Command:
		return b.Header.ID, true
	case exec.Cancel:
		return b.Header.ID, true
	}
	return fleet.UUID{}, false
}

func (s *State) remember(id fleet.UUID, r Result) {
	s.results, _, _ = s.results.Insert(id[:], r)
	s.order, _, _ = s.order.Insert(key64(r.Act), id)
	if s.order.Len() > MaxResults {
		key, oldest, _ := s.order.Root().Minimum()
		s.order, _, _ = s.order.Delete(key)
		s.results, _, _ = s.results.Delete(oldest[:])
	}
}

func (s *State) take(e Entry) error {
	switch e := e.(type) {
	case PutAct:
		return s.putAct(e)
	case PutToken:
		return s.putToken(e)
	case DeleteToken:
		return s.deleteToken(e)
	case PutCommand:
		return s.putCommand(e)
	case PutCancel:
		return s.putCancel(e)
	case PutRequest:
		return s.putRequest(e)
	}
	return fleet.Errorf(fleet.Internal, "entry of type %T has no rule", e)
}

func (s *State) clock() time.Time { return time.UnixMilli(s.Time) }

func (s *State) putAct(e PutAct) error {
	act := auth.Act{Index: s.Act, Time: s.Time, Kind: e.Kind, Data: e.Data}
	if e.Kind == auth.ActEnrol && s.Record.Roster.Len() > 0 { // the first node's token was never put
		if err := s.countUse(e.Data); err != nil {
			return err
		}
	}
	record, err := s.Record.Apply(act, fleet.ID{})
	if err != nil {
		return err
	}
	s.acts, _, _ = s.acts.Insert(key64(s.Record.Length), act)
	s.Record = record
	return nil
}

// countUse counts one use of the enrolment's token. The count stands only if the whole entry does.
func (s *State) countUse(data []byte) error {
	var enrolment auth.Enrolment
	if err := wire.Unmarshal(data, &enrolment); err != nil {
		return err
	}
	body, err := auth.Peek[auth.Token](enrolment.Token)
	if err != nil {
		return err
	}
	token, ok := s.Token(body.Header.ID)
	digest := enrolment.Token.Digest(auth.ForToken, s.Record.Charter.Fleet())
	switch {
	case !ok || token.Statement.Digest(auth.ForToken, s.Record.Charter.Fleet()) != digest:
		return fleet.Errorf(fleet.NotFound, "the fleet does not know this join string's token").Hinted("on a host of the fleet: muster token create")
	case token.Deleted:
		return fleet.Errorf(fleet.Denied, "the join string was taken back").Hinted("on a host of the fleet: muster token create")
	case token.Used >= token.Body.Uses:
		return fleet.Errorf(fleet.Exhausted, "the join string is used up (%d of %d uses)", token.Used, token.Body.Uses).
			Hinted("on a host of the fleet: muster token create --uses N")
	}
	used := *token
	used.Used++
	s.tokens, _, _ = s.tokens.Insert(body.Header.ID[:], &used)
	return nil
}

func (s *State) putToken(e PutToken) error {
	body, op, err := auth.OpenOrder(s.Record.Charter, e.Statement, auth.ForToken, s.clock(), func(t auth.Token) auth.Header { return t.Header })
	if err == nil {
		err = body.Check()
	}
	if err == nil {
		err = s.permit(op, auth.Ask{Action: auth.ActPutToken, Server: body.Server})
	}
	if err != nil {
		return err
	}
	if _, ok := s.Token(body.Header.ID); ok {
		return fleet.Errorf(fleet.Conflict, "token %s is there already", body.Header.ID)
	}
	s.dropOldTokens()
	if s.tokens.Len() >= auth.MaxTokens {
		return fleet.Errorf(fleet.Exhausted, "%d tokens, the limit", auth.MaxTokens).Hinted("muster token list; muster token delete ID")
	}
	s.tokens, _, _ = s.tokens.Insert(body.Header.ID[:], &Token{Statement: e.Statement, Body: body})
	return nil
}

// dropOldTokens forgets tokens that nobody can use any more.
func (s *State) dropOldTokens() {
	var gone [][]byte
	s.tokens.Root().Walk(func(key []byte, t *Token) bool {
		if t.Body.Header.Expires+auth.MaxSkew.Milliseconds() < s.Time {
			gone = append(gone, key)
		}
		return false
	})
	for _, key := range gone {
		s.tokens, _, _ = s.tokens.Delete(key)
	}
}

func (s *State) deleteToken(e DeleteToken) error {
	body, op, err := auth.OpenOrder(s.Record.Charter, e.Statement, auth.ForTokenDelete, s.clock(), func(t auth.DeleteToken) auth.Header { return t.Header })
	if err == nil {
		err = s.permit(op, auth.Ask{Action: auth.ActDeleteToken})
	}
	if err != nil {
		return err
	}
	token, ok := s.Token(body.Token)
	if !ok || token.Deleted {
		return fleet.Errorf(fleet.NotFound, "no token %s", body.Token).Hinted("muster token list")
	}
	gone := *token
	gone.Deleted = true
	s.tokens, _, _ = s.tokens.Insert(body.Token[:], &gone)
	return nil
}

// permit asks policy about the fleet as a whole.
func (s *State) permit(op auth.Operator, ask auth.Ask) error {
	ask.Principal = op.AsPrincipal()
	ask.Resource = auth.Resource{Type: "Fleet", Name: s.Record.Charter.Name()}
	_, err := s.Record.Charter.Policy().Decide(ask)
	return err
}

func (s *State) putCommand(e PutCommand) error {
	order := exec.Order{Statement: e.Statement, Nodes: e.Nodes}
	body, op, err := order.Verify(s.Record.Charter, s.clock())
	if err != nil {
		return err
	}
	for _, id := range order.Nodes {
		if _, err := s.Record.Roster.Enrolled(id); err != nil {
			return err
		}
	}
	if _, ok := s.Command(body.Header.ID); ok {
		return fleet.Errorf(fleet.Conflict, "command %s is there already", body.Header.ID)
	}
	if err := s.makeRoom(); err != nil {
		return err
	}
	c := &Command{Order: order, Body: body, Operator: op.Name, Act: s.Act, Committed: s.Time}
	s.commands, _, _ = s.commands.Insert(key64(s.Act), c)
	s.byID, _, _ = s.byID.Insert(body.Header.ID[:], s.Act)
	return nil
}

// makeRoom forgets commands that are over and old, and, at the bound, the oldest that is over.
func (s *State) makeRoom() error {
	for {
		key, oldest, ok := s.commands.Root().Minimum()
		if !ok {
			return nil
		}
		over := oldest.Body.Header.Expires+oldest.Body.Run.Timeout+auth.MaxSkew.Milliseconds() < s.Time
		old := oldest.Committed+KeepCommands.Milliseconds() < s.Time
		full := s.commands.Len() >= MaxCommands
		switch {
		case over && (old || full):
			s.commands, _, _ = s.commands.Delete(key)
			id := oldest.ID()
			s.byID, _, _ = s.byID.Delete(id[:])
		case full:
			return fleet.Errorf(fleet.Exhausted, "%d commands are kept and the oldest may still run", MaxCommands)
		default:
			return nil
		}
	}
}

func (s *State) putCancel(e PutCancel) error {
	body, _, err := auth.OpenOrder(s.Record.Charter, e.Statement, auth.ForCancel, s.clock(), func(c exec.Cancel) auth.Header { return c.Header })
	if err != nil {
		return err
	}
	c, ok := s.Command(body.Command)
	if !ok {
		return fleet.Errorf(fleet.NotFound, "no command %s", body.Command).Hinted("muster command list")
	}
	if c.Cancel != nil {
		return nil // cancelled is cancelled
	}
	// It moves behind everything that nodes have caught up on, so that they learn of it by the same cursor.
	cancelled := *c
	cancelled.Cancel, cancelled.Cancelled, cancelled.Act = &e.Statement, s.Time, s.Act
	s.commands, _, _ = s.commands.Delete(key64(c.Act))
	s.commands, _, _ = s.commands.Insert(key64(s.Act), &cancelled)
	s.byID, _, _ = s.byID.Insert(body.Command[:], s.Act)
	return nil
}

func (s *State) putRequest(e PutRequest) error {
	r := e.Request
	if err := fleet.CheckName(r.Name); err != nil {
		return err
	}
	if len(r.Key) != 32 || len(r.HPKE) > 2048 {
		return fleet.Errorf(fleet.Invalid, "operator request with malformed keys")
	}
	if op, ok := s.Record.Charter.OperatorByName(r.Name); ok {
		return fleet.Errorf(fleet.Conflict, "operator %s is there already", op.Name).Hinted("muster operator request --name OTHER")
	}
	if off := time.Duration(r.Issued-s.Time) * time.Millisecond; off.Abs() > auth.MaxSkew {
		return fleet.Errorf(fleet.Denied, "the request was made %s off the fleet's time", off.Round(time.Second))
	}
	cutoff := s.Time - KeepRequests.Milliseconds()
	fresh := slices.DeleteFunc(slices.Clone(s.requests), func(old OperatorRequest) bool { return old.Issued < cutoff })
	if len(fresh) >= MaxRequests {
		return fleet.Errorf(fleet.Exhausted, "%d operator requests wait, the limit; they lapse after an hour", MaxRequests)
	}
	s.requests = append(fresh, r)
	return nil
}
