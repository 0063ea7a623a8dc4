package shape

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
	"github.com/muster-fleet/muster/params"
)

// ParamsAsk is the body of POST /v1/params/read: exactly one of get, path, list and history.
type ParamsAsk struct {
	Statement []byte         `json:"statement,omitempty"` // canonical msgpack of the signed request, in base64; none: the caller's account asks
	Get       []string       `json:"get,omitempty"`       // NAME, NAME:VERSION or NAME:LABEL
	Path      *ParamsPath    `json:"path,omitzero"`
	List      *ParamsList    `json:"list,omitzero"`
	History   *ParamsHistory `json:"history,omitzero"`
	Values    bool           `json:"values,omitzero"`
	Stale     bool           `json:"stale,omitzero"`
}

// ParamsPath asks for the parameters below a path.
type ParamsPath struct {
	Path      string        `json:"path"`
	Recursive bool          `json:"recursive,omitzero"`
	Filters   []ParamFilter `json:"filters,omitempty"`
	Max       uint32        `json:"max,omitzero"`
	After     string        `json:"after,omitempty"`
}

// ParamsList asks what parameters there are.
type ParamsList struct {
	Filters []ParamFilter `json:"filters,omitempty"`
	Max     uint32        `json:"max,omitzero"`
	After   string        `json:"after,omitempty"`
}

// ParamsHistory asks for the versions of a parameter.
type ParamsHistory struct {
	Name  string `json:"name"`
	Max   uint32 `json:"max,omitzero"`
	After uint32 `json:"after,omitzero"`
}

// ParamFilter is one filter.
type ParamFilter struct {
	Key    string   `json:"key"`
	Option string   `json:"option,omitempty"`
	Values []string `json:"values"`
}

// ParamsRead is the answer. The agent has verified its items.
type ParamsRead struct {
	Format  int            `json:"format"`
	Source  string         `json:"source"` // leader, replica or copy
	AgeMS   int64          `json:"age_ms"` // for how long a newer version may have been there that this does not show
	As      string         `json:"as,omitempty"`
	Act     uint64         `json:"act"`
	Time    time.Time      `json:"time,omitzero"`
	Items   []Param        `json:"items"`
	Missing []MissingParam `json:"missing"`
	More    bool           `json:"more"`
	Next    string         `json:"next,omitempty"` // after which the next page begins
}

// MissingParam is what was asked for by name and is not shown.
type MissingParam struct {
	Selector string `json:"selector"`
	Why      string `json:"why"`
}

// Param is one version of a parameter: what there is to know of it, and, in base64, what proves it.
type Param struct {
	Name        string            `json:"name"`
	Version     uint32            `json:"version"`
	Type        string            `json:"type"`
	Value       *string           `json:"value,omitzero"` // of a plain one, if values were asked for
	Born        int64             `json:"born"`           // Unix milliseconds; with the name, the parameter's identity
	DataType    string            `json:"data_type"`
	Tier        string            `json:"tier"`
	Size        uint32            `json:"size"`
	Description string            `json:"description,omitempty"`
	Pattern     string            `json:"allowed_pattern,omitempty"`
	Policies    string            `json:"policies,omitempty"` // as Systems Manager writes them
	Tags        map[string]string `json:"tags"`
	Labels      []string          `json:"labels"`
	Readers     []ParamReader     `json:"readers"` // of a secret
	By          string            `json:"by"`
	Written     time.Time         `json:"written,omitzero"`
	WrittenAct  uint64            `json:"act"`
	Newest      uint32            `json:"newest"` // the parameter's newest version
	Selector    string            `json:"selector,omitempty"`
	Proof       ParamProof        `json:"proof"`
}

// ParamReader is who can read a secret.
type ParamReader struct {
	Reader string   `json:"reader"` // keyring:NAME, operator:NAME or recovery
	Epoch  uint32   `json:"epoch,omitzero"`
	Key    fleet.ID `json:"key"`
}

// ParamProof is what a program needs to verify a version itself, and to open a secret.
type ParamProof struct {
	Change  []byte          `json:"change"` // canonical msgpack of the signed change
	Op      uint32          `json:"op"`
	Body    []byte          `json:"body"`              // the operation that the change names by its hash
	Content []byte          `json:"content,omitempty"` // what the operation names by its hash
	Seq     uint32          `json:"seq"`
	Label   *ParamLabelMade `json:"label,omitzero"`
}

// ParamLabelMade is the change that gave a version the label by which it was asked for.
type ParamLabelMade struct {
	Change []byte `json:"change"`
	Op     uint32 `json:"op"`
	Body   []byte `json:"body"`
}

// OfParamsAsk returns the shape of a.
func OfParamsAsk(a node.ParamsAsk) ParamsAsk {
	out := ParamsAsk{Statement: ofSigned(a.Signed), Values: a.Ask.Values, Stale: a.Stale}
	for _, s := range a.Ask.Get {
		out.Get = append(out.Get, s.String())
	}
	for _, p := range a.Ask.Path {
		out.Path = &ParamsPath{p.Path, p.Recursive, ofFilters(p.Filters), p.Max, p.After}
	}
	for _, l := range a.Ask.List {
		out.List = &ParamsList{ofFilters(l.Filters), l.Max, l.After}
	}
	for _, h := range a.Ask.History {
		out.History = &ParamsHistory{h.Name, h.Max, h.After}
	}
	return out
}

// Ask returns what OfParamsAsk was given. It does not check it.
func (a ParamsAsk) Ask() (node.ParamsAsk, error) {
	signed, err := signedOf(a.Statement)
	if err != nil {
		return node.ParamsAsk{}, err
	}
	out := node.ParamsAsk{Signed: signed, Ask: params.Ask{Values: a.Values}, Stale: a.Stale}
	if len(a.Get) > params.MaxGet {
		return node.ParamsAsk{}, fleet.Errorf(fleet.Invalid, "%d parameters at a time; at most %d (ValidationException)", len(a.Get), params.MaxGet)
	}
	for _, text := range a.Get {
		s, err := params.ParseSelector(text)
		if err != nil {
			return node.ParamsAsk{}, err
		}
		out.Ask.Get = append(out.Ask.Get, s)
	}
	if p := a.Path; p != nil {
		path, err := params.CheckPath(p.Path)
		if err != nil {
			return node.ParamsAsk{}, err
		}
		out.Ask.Path = []params.PathAsk{{Path: path, Recursive: p.Recursive, Filters: filtersOf(p.Filters), Max: p.Max, After: p.After}}
	}
	if l := a.List; l != nil {
		out.Ask.List = []params.ListAsk{{Filters: filtersOf(l.Filters), Max: l.Max, After: l.After}}
	}
	if h := a.History; h != nil {
		name, err := params.CanonicalName(h.Name)
		if err != nil {
			return node.ParamsAsk{}, err
		}
		out.Ask.History = []params.HistoryAsk{{Name: name, Max: h.Max, After: h.After}}
	}
	return out, nil
}

func ofSigned(signed []auth.Envelope) []byte {
	if len(signed) == 0 {
		return nil
	}
	return wire.Marshal(signed[0])
}

func signedOf(statement []byte) ([]auth.Envelope, error) {
	if len(statement) == 0 {
		return nil, nil
	}
	var e auth.Envelope
	if err := wire.Unmarshal(statement, &e); err != nil {
		return nil, err
	}
	return []auth.Envelope{e}, nil
}

func ofFilters(filters []params.Filter) (out []ParamFilter) {
	for _, f := range filters {
		out = append(out, ParamFilter{f.Key, f.Option, f.Values})
	}
	return out
}

func filtersOf(filters []ParamFilter) (out []params.Filter) {
	for _, f := range filters {
		out = append(out, params.Filter{Key: f.Key, Option: f.Option, Values: f.Values})
	}
	return out
}

// OfParamsRead returns the shape of r.
func OfParamsRead(r node.ParamsRead) ParamsRead {
	out := ParamsRead{
		Format: Format, Source: string(r.Source), AgeMS: r.Age.Milliseconds(), As: r.As, Act: r.Answer.Act, Time: At(r.Answer.Time),
		Items: []Param{}, Missing: []MissingParam{}, More: r.Answer.More, Next: r.Answer.Next,
	}
	for _, i := range r.Answer.Items {
		out.Items = append(out.Items, OfParam(i))
	}
	for _, m := range r.Answer.Missing {
		out.Missing = append(out.Missing, MissingParam{m.Selector.String(), m.Why})
	}
	return out
}

// Read returns what OfParamsRead was given. What an item says beside its proof is read from the proof.
func (r ParamsRead) Read() (node.ParamsRead, error) {
	out := node.ParamsRead{
		Age: time.Duration(r.AgeMS) * time.Millisecond, Source: node.ParamsSource(r.Source), As: r.As,
		Answer: params.Answer{More: r.More, Next: r.Next, Act: r.Act, Time: Milli(r.Time)},
	}
	for _, p := range r.Items {
		item, err := p.Item()
		if err != nil {
			return node.ParamsRead{}, err
		}
		out.Answer.Items = append(out.Answer.Items, item)
	}
	for _, m := range r.Missing {
		s, err := params.ParseSelector(m.Selector)
		if err != nil {
			return node.ParamsRead{}, err
		}
		out.Answer.Missing = append(out.Answer.Missing, params.Missing{Selector: s, Why: m.Why})
	}
	return out, nil
}

// OfParam returns the shape of a version.
func OfParam(i params.Item) Param {
	out := Param{
		Tags: map[string]string{}, Labels: []string{}, Readers: []ParamReader{}, By: i.Operator, Written: At(i.Time), WrittenAct: i.Act,
		Newest: i.Newest, Selector: i.Selector,
		Proof: ParamProof{Change: wire.Marshal(i.Change), Op: i.Op, Body: i.Body, Seq: i.Seq},
	}
	out.Labels = append(out.Labels, i.Labels...)
	if len(i.Content) == 1 {
		out.Proof.Content = i.Content[0]
	}
	if len(i.Proof) == 1 {
		out.Proof.Label = &ParamLabelMade{wire.Marshal(i.Proof[0].Change), i.Proof[0].Op, i.Proof[0].Body}
	}
	var op params.Op
	if wire.Unmarshal(i.Body, &op) != nil || len(op.Put) != 1 {
		return out
	}
	put := op.Put[0]
	out.Name, out.Version, out.Type, out.Born, out.DataType, out.Tier = put.Name, put.Version, put.Type.String(), put.Born, put.DataType, put.Tier.String()
	out.Size, out.Description, out.Pattern = put.Size, put.Description, put.Pattern
	if len(put.Policies) > 0 {
		out.Policies = params.FormatPolicies(put.Policies)
	}
	for k, v := range put.Tags {
		out.Tags[k] = v
	}
	for _, r := range put.Readers {
		out.Readers = append(out.Readers, ParamReader{r.String(), r.Epoch, r.Key})
	}
	if content, err := params.DecodeContent(out.Proof.Content); err == nil && len(content.Plain) == 1 {
		value := string(content.Plain[0])
		out.Value = &value
	}
	return out
}

// Item returns what OfParam was given.
func (p Param) Item() (params.Item, error) {
	out := params.Item{
		Selector: p.Selector, Op: p.Proof.Op, Body: p.Proof.Body, Newest: p.Newest, Seq: p.Proof.Seq, Operator: p.By,
		Time: Milli(p.Written), Act: p.WrittenAct,
	}
	if len(p.Labels) > 0 {
		out.Labels = p.Labels
	}
	if err := wire.Unmarshal(p.Proof.Change, &out.Change); err != nil {
		return params.Item{}, err
	}
	if len(p.Proof.Content) > 0 {
		out.Content = [][]byte{p.Proof.Content}
	}
	if l := p.Proof.Label; l != nil {
		proof := params.LabelProof{Op: l.Op, Body: l.Body}
		if err := wire.Unmarshal(l.Change, &proof.Change); err != nil {
			return params.Item{}, err
		}
		out.Proof = []params.LabelProof{proof}
	}
	return out, nil
}

// ParamsWatch is the body of POST /v1/params/watch.
type ParamsWatch struct {
	Statement []byte    `json:"statement,omitempty"` // as in ParamsAsk
	Scope     string    `json:"scope"`               // a name, or a path with a slash at its end
	After     *ParamPos `json:"after,omitempty"`     // the last event that was seen; none: from now on
}

// ParamPos is the place of an event in the order of all.
type ParamPos struct {
	Act  uint64 `json:"act"`
	Part uint32 `json:"part"`
}

// ParamsNews is a line of a watch.
type ParamsNews struct {
	Format int          `json:"format"`
	Events []ParamEvent `json:"events"`
	At     ParamPos     `json:"at"`
	Lost   bool         `json:"lost,omitzero"` // what came before is no longer kept: read anew
}

// ParamEvent is something that happened to a parameter.
type ParamEvent struct {
	ParamPos
	Time    time.Time         `json:"time,omitzero"`
	Kind    string            `json:"kind"`
	Name    string            `json:"name"`
	Born    int64             `json:"born"`
	Version uint32            `json:"version,omitzero"`
	Labels  []string          `json:"labels"`
	By      string            `json:"by,omitempty"` // operator; empty: time did it
	Tags    map[string]string `json:"tags"`
}

// OfParamsWatch returns the shape of w.
func OfParamsWatch(w node.ParamsWatch) ParamsWatch {
	out := ParamsWatch{Statement: ofSigned(w.Signed), Scope: w.Scope}
	if w.After != (params.EventPos{}) {
		out.After = &ParamPos{w.After.Act, w.After.Part}
	}
	return out
}

// Watch returns what OfParamsWatch was given. It does not check it.
func (w ParamsWatch) Watch() (node.ParamsWatch, error) {
	signed, err := signedOf(w.Statement)
	out := node.ParamsWatch{Signed: signed, Scope: w.Scope}
	if w.After != nil {
		out.After = params.EventPos{Act: w.After.Act, Part: w.After.Part}
	}
	return out, err
}

// OfParamsNews returns the shape of n.
func OfParamsNews(n node.ParamsNews) ParamsNews {
	out := ParamsNews{Format: Format, Events: []ParamEvent{}, At: ParamPos{n.At.Act, n.At.Part}, Lost: n.Lost}
	for _, e := range n.Events {
		event := ParamEvent{
			ParamPos: ParamPos{e.Act, e.Part}, Time: At(e.Time), Kind: string(e.Kind), Name: e.Name, Born: e.Born, Version: e.Version,
			Labels: []string{}, By: e.By, Tags: map[string]string{},
		}
		event.Labels = append(event.Labels, e.Labels...)
		for k, v := range e.Tags {
			event.Tags[k] = v
		}
		out.Events = append(out.Events, event)
	}
	return out
}

// News returns what OfParamsNews was given.
func (n ParamsNews) News() node.ParamsNews {
	out := node.ParamsNews{At: params.EventPos{Act: n.At.Act, Part: n.At.Part}, Lost: n.Lost}
	for _, e := range n.Events {
		event := params.Event{
			Act: e.Act, Part: e.Part, Time: Milli(e.Time), Kind: params.EventKind(e.Kind), Name: e.Name, Born: e.Born, Version: e.Version, By: e.By,
		}
		if len(e.Labels) > 0 {
			event.Labels = e.Labels
		}
		if len(e.Tags) > 0 {
			event.Tags = e.Tags
		}
		out.Events = append(out.Events, event)
	}
	return out
}
