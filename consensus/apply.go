package consensus

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

// Apply returns the state after one entry, and what the entry came to. Every replica computes the same. now is the
// leader's stamp; the state's time never goes back.
func (s State) Apply(e Entry, now int64) (State, Result) {
	p := prepared(e, now)
	return s.apply(&p)
}

func (s State) apply(p *Prepared) (State, Result) {
	e := p.entry
	if set, ok := e.(SetLevel); ok { // programs from before levels know no such entry: one that is refused leaves nothing, as there
		err := s.checkLevel(set)
		if err == nil {
			err = s.Beyond(set)
		}
		if err != nil {
			return s, refusal(err, s.Time)
		}
	}
	if p.now <= auth.MaxTime { // a stamp beyond all time would keep the fleet from ever taking another act
		s.Time = max(s.Time, p.now)
	}
	if first, ok := s.results.find(p.key); p.known && ok {
		return s, first
	}
	next := s
	next.Taken++
	next.params.by = work(next.Taken)
	if !unnumbered(e) {
		next.Act++
	}
	result := Result{Act: next.Act, Time: next.Time}
	if err := next.take(e, p); err != nil {
		if before, ok := errors.AsType[taken](err); ok {
			return s, before.first
		}
		return s, refusal(err, s.Time) // a refused entry leaves nothing but its time
	}
	if p.known {
		next.results = next.results.with(p.key, result)
	}
	return next, result
}

// unnumbered reports whether an entry takes no act index: every node would ask for what is new.
func unnumbered(e Entry) bool {
	switch e.(type) {
	case PutGrants, PutEndings, SetLevel:
		return true
	}
	return false
}

func refusal(err error, at int64) Result {
	r := Result{Time: at, Kind: fleet.KindOf(err), Why: err.Error()}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		r.Hint = e.Hint
	}
	return r
}

// statementKey returns the hash under which a repetition is known: of the kind, the signer and the body, for nothing
// here is verified yet, and an ID that somebody merely claims must not answer for another statement. A refused
// statement is not remembered: it may hold later (a name that became free), and refusing it again costs nothing.
func statementKey(e Entry) (fleet.UUID, bool) {
	switch e := e.(type) {
	case PutAct:
		switch e.Kind {
		case auth.ActGossipEpoch: // the server's own, counted by its epoch
			return fleet.UUID{}, false
		case auth.ActEnrol: // a joiner who asks again may get another server's countersignature
			var enrolment auth.Enrolment
			if err := wire.Unmarshal(e.Data, &enrolment); err != nil {
				return fleet.UUID{}, false
			}
			return envelopeKey(e.kind(), enrolment.Request)
		}
		return keyOf(e.kind(), []byte{byte(e.Kind)}, e.Data)
	case PutToken:
		return envelopeKey(e.kind(), e.Statement)
	case DeleteToken:
		return envelopeKey(e.kind(), e.Statement)
	case PutCommand:
		return envelopeKey(e.kind(), e.Statement)
	case PutCancel:
		return envelopeKey(e.kind(), e.Statement)
	case PutRequest:
		return keyOf(e.kind(), wire.Marshal(e.Request))
	case PutDocument:
		return envelopeKey(e.kind(), e.Statement)
	case ChangeDocument:
		return envelopeKey(e.kind(), e.Statement)
	case PutParams:
		return envelopeKey(e.kind(), e.Statement)
	case PutGrants, PutEndings, ParamsDue, SetLevel: // nobody signed them; what they repeat is refused
		return fleet.UUID{}, false
	}
	return fleet.UUID{}, false
}

func envelopeKey(kind uint8, e auth.Envelope) (fleet.UUID, bool) {
	return keyOf(kind, e.Key[:], e.Body)
}

func keyOf(kind uint8, parts ...[]byte) (fleet.UUID, bool) {
	sum := fleet.Sum(append([]byte{kind}, bytes.Join(parts, nil)...))
	return fleet.UUID(sum[:16]), true
}

func (s *State) take(e Entry, p *Prepared) error {
	if act, ok := e.(PutAct); s.Record.Charter == nil && (!ok || act.Kind != auth.ActCharter) {
		return fleet.Errorf(fleet.Unavailable, "the fleet is not founded yet")
	}
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
	case PutDocument:
		return s.putDocument(e)
	case ChangeDocument:
		return s.changeDocument(e)
	case PutGrants:
		return s.putGrants(e)
	case PutEndings:
		return s.putEndings(e)
	case PutParams:
		return s.putParams(e, p)
	case ParamsDue:
		return s.paramsDue()
	case SetLevel:
		s.Level = e.Level // which apply has judged
		return nil
	}
	return fleet.Errorf(fleet.Internal, "entry of type %T has no rule", e)
}

func (s *State) clock() time.Time { return time.UnixMilli(s.Time) }

func (s *State) putAct(e PutAct) error {
	if err := auth.CheckLevel("that change", auth.LevelOfAct(e.Kind, e.Data), s.Level); err != nil {
		return err
	}
	act := auth.Act{Index: s.Act, Time: s.Time, Kind: e.Kind, Data: e.Data}
	record, err := s.Record.Apply(act, fleet.ID{})
	if err != nil {
		return err
	}
	if e.Kind == auth.ActEnrol && s.Record.Roster.Len() > 0 { // the first node's token was never put
		if err := s.countUse(e.Data); err != nil {
			return err
		}
	}
	s.acts, _, _ = s.acts.Insert(key64(s.Record.Length), act)
	s.Record = record
	return nil
}

// countUse counts one use of the token of an enrolment that is verified.
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
		_, err = s.Record.Charter.Policy().Decide(body.Ask(op, s.Record.Charter.Name()))
	}
	if err != nil {
		return err
	}
	if _, ok := s.Token(body.Header.ID); ok {
		return fleet.Errorf(fleet.Conflict, "token %s is there already", body.Header.ID)
	}
	switch standing := s.dropOldTokens(); {
	case standing >= auth.MaxTokens:
		return fleet.Errorf(fleet.Exhausted, "%d tokens, the limit", auth.MaxTokens).Hinted("muster token list; muster token delete ID")
	case s.tokens.Len() >= MaxTokensKept:
		return fleet.Errorf(fleet.Exhausted, "%d tokens are used up or deleted and not expired yet, the limit", s.tokens.Len()-standing)
	}
	s.tokens, _, _ = s.tokens.Insert(body.Header.ID[:], &Token{Statement: e.Statement, Body: body})
	return nil
}

// dropOldTokens forgets tokens that have expired, and counts those that somebody can still use. One that is used up or
// deleted is kept until it expires: forgotten, it could be put once more.
func (s *State) dropOldTokens() (standing int) {
	var gone [][]byte
	s.tokens.Root().Walk(func(key []byte, t *Token) bool {
		switch {
		case t.Body.Header.Expires+auth.MaxSkew.Milliseconds() < s.Time:
			gone = append(gone, key)
		case !t.Deleted && t.Used < t.Body.Uses:
			standing++
		}
		return false
	})
	for _, key := range gone {
		s.tokens, _, _ = s.tokens.Delete(key)
	}
	return standing
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
	if off := time.UnixMilli(r.Issued).Sub(s.clock()); off > auth.MaxSkew || off < -auth.MaxSkew { // Sub saturates
		return fleet.Errorf(fleet.Denied, "the request was made %s off the fleet's time", off.Round(time.Second)).
			Hinted("compare the clocks of both hosts: date -u")
	}
	fresh := s.Requests()
	if slices.ContainsFunc(fresh, func(old OperatorRequest) bool { return old.Code() == r.Code() }) {
		return nil
	}
	if len(fresh) >= MaxRequests {
		return fleet.Errorf(fleet.Exhausted, "%d operator requests wait, the limit; they lapse after an hour", MaxRequests)
	}
	s.requests = append(fresh, r)
	return nil
}

// Refuse returns the result of an item that is no entry at all.
func Refuse(err error) Result { return refusal(err, 0) }
