package node

import (
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// Parameters is what is answered from: the agreed state, or a node's copies. Names come in order.
type Parameters interface {
	Param(name string) (*params.Param, bool)
	Params(after string, each func(*params.Param) bool)
	ParamsBelow(path, after string, each func(*params.Param) bool)
}

// Bounds of one answer. It may end before the page is full; Next then says where to go on.
const (
	maxParamBytes   = 384 << 10 // of all items; one alone has less than 300 KiB, and a frame 512
	maxParamLooks   = 50_000    // parameters that are looked at; filters' work counts as more of them
	lookWork        = 1 << 10   // bytes that filters compare in the time of a look, a microsecond
	maxParamDecides = 2_000     // questions to policy, some 10 µs each
)

// AnswerParams answers an ask from a consistent picture of the parameters, as the record's policy permits. What policy denies
// is left out of pages, and missing among those asked for by name. A secret's content is there only if policy permits to
// decrypt it, too.
func AnswerParams(from Parameters, record auth.Record, asker ParamAsker, ask params.Ask) (params.Answer, error) {
	if record.Charter == nil {
		return params.Answer{}, fleet.Errorf(fleet.Unavailable, "the fleet is not founded yet")
	}
	if err := ask.Check(); err != nil {
		return params.Answer{}, err
	}
	if err := ask.Within(asker.Scope); err != nil {
		return params.Answer{}, err
	}
	p := page{from: from, policy: record.Charter.Policy(), asker: asker, values: ask.Values}
	switch {
	case len(ask.Get) > 0:
		p.get(ask.Get)
	case len(ask.Path) == 1:
		p.path(ask.Path[0])
	case len(ask.List) == 1:
		p.list(ask.List[0])
	case len(ask.History) == 1:
		p.history(ask.History[0])
	}
	return p.answer, nil
}

// page is an answer under way.
type page struct {
	from    Parameters
	policy  *auth.Policy
	asker   ParamAsker
	values  bool
	answer  params.Answer
	bytes   int
	looks   int
	decides int
}

func (p *page) get(selectors []params.Selector) {
	for i, s := range selectors {
		item, err := p.find(s)
		if err != nil {
			p.answer.Missing = append(p.answer.Missing, params.Missing{Selector: s, Why: err.Error()})
			continue
		}
		if !p.add(item) {
			p.answer.More, p.answer.Next = true, selectors[i].String()
			return
		}
	}
}

// find returns what a selector names. Where policy denies, nobody learns whether there is anything.
func (p *page) find(s params.Selector) (params.Item, error) {
	param, ok := p.from.Param(s.Name)
	if !ok {
		param = nil
		if err := p.asker.may(p.policy, auth.ActReadParam, s.Name, nil); err != nil {
			return params.Item{}, err
		}
	} else if err := p.reads(param); err != nil {
		return params.Item{}, err
	}
	version, label, err := param.Find(s)
	if err != nil {
		return params.Item{}, err
	}
	return p.item(param, s, version, label), nil
}

// reads asks policy whether the asker may know of a parameter, by the tags that it has now.
func (p *page) reads(param *params.Param) error {
	p.decides += len(p.asker.Who)
	return p.asker.may(p.policy, auth.ActReadParam, param.Name, param.Newest().Put.Tags)
}

// item returns a version as it is told to the asker, who may know of it.
func (p *page) item(param *params.Param, s params.Selector, v *params.Version, label *params.LabelAt) params.Item {
	item := param.Item(s, v, label)
	if p.values && (v.Put.Type != params.SecureString || p.decrypts(param)) {
		item.Content = [][]byte{v.Content}
	}
	return item
}

func (p *page) decrypts(param *params.Param) bool {
	p.decides += len(p.asker.Who)
	return p.asker.may(p.policy, auth.ActDecryptParam, param.Name, param.Newest().Put.Tags) == nil
}

// add takes an item into the answer, unless there is no room for it any more.
func (p *page) add(item params.Item) bool {
	size := sizeOf(item)
	if p.bytes > 0 && p.bytes+size > maxParamBytes {
		return false
	}
	p.bytes += size
	p.answer.Items = append(p.answer.Items, item)
	return true
}

// sizeOf bounds what an item takes on the wire, in bytes.
func sizeOf(item params.Item) int {
	size := 512 + len(item.Selector) + len(item.Change.Body) + len(item.Body) + len(item.Operator)
	for _, c := range item.Content {
		size += len(c)
	}
	for _, l := range item.Labels {
		size += 8 + len(l)
	}
	for _, proof := range item.Proof {
		size += 256 + len(proof.Change.Body) + len(proof.Body)
	}
	return size
}

func (p *page) path(ask params.PathAsk) {
	p.walk(ask.Max, params.WorkOf(ask.Filters), func(each func(*params.Param) bool) {
		p.from.ParamsBelow(ask.Path, ask.After, each)
	}, func(param *params.Param) (params.Item, bool) {
		if !params.Below(ask.Path, param.Name, ask.Recursive) || !param.Matches(ask.Filters) || p.reads(param) != nil {
			return params.Item{}, false
		}
		version, label := param.Chosen(ask.Filters)
		s := params.Selector{Name: param.Name}
		if label != nil {
			s.Label = label.Label
		}
		return p.item(param, s, version, label), true
	})
}

func (p *page) list(ask params.ListAsk) {
	p.values = false
	p.walk(ask.Max, params.WorkOf(ask.Filters), func(each func(*params.Param) bool) {
		p.from.Params(ask.After, each)
	}, func(param *params.Param) (params.Item, bool) {
		if !param.Matches(ask.Filters) || p.reads(param) != nil {
			return params.Item{}, false
		}
		return p.item(param, params.Selector{Name: param.Name}, param.Newest(), nil), true
	})
}

// walk fills a page with what choose returns of parameters in order.
func (p *page) walk(want uint32, work params.FilterWork, all func(each func(*params.Param) bool), choose func(*params.Param) (params.Item, bool)) {
	last := ""
	all(func(param *params.Param) bool {
		if len(p.answer.Items) == room(want) || p.looks >= maxParamLooks || p.decides >= maxParamDecides {
			p.answer.More, p.answer.Next = true, last
			return false
		}
		p.looks += 1 + work.Of(param)/lookWork
		if item, ok := choose(param); ok && !p.add(item) {
			p.answer.More, p.answer.Next = true, last
			return false
		}
		last = param.Name
		return true
	})
}

// room returns how many items a page has.
func room(want uint32) int {
	if want == 0 {
		return params.MaxPage
	}
	return int(want)
}

func (p *page) history(ask params.HistoryAsk) {
	named := params.Selector{Name: ask.Name}
	if _, err := p.find(named); err != nil {
		p.answer.Missing = []params.Missing{{Selector: named, Why: err.Error()}}
		return
	}
	param, _ := p.from.Param(ask.Name)
	for _, v := range param.Versions {
		if v.Number <= ask.After {
			continue
		}
		s := params.Selector{Name: ask.Name, Version: v.Number}
		if len(p.answer.Items) == room(ask.Max) || !p.add(p.item(param, s, v, nil)) {
			p.answer.More = true
			return
		}
	}
}

// Unexpired shows parameters without those whose time is over at now (Unix milliseconds). What is agreed lets them go only
// when a leader says so, which nobody does while there is none.
func Unexpired(from Parameters, now int64) Parameters { return unexpired{from, now} }

type unexpired struct {
	Parameters
	now int64
}

func (u unexpired) Param(name string) (*params.Param, bool) {
	p, ok := u.Parameters.Param(name)
	if !ok || p.Expired(u.now) {
		return nil, false
	}
	return p, true
}

func (u unexpired) Params(after string, each func(*params.Param) bool) {
	u.Parameters.Params(after, u.but(each))
}

func (u unexpired) ParamsBelow(path, after string, each func(*params.Param) bool) {
	u.Parameters.ParamsBelow(path, after, u.but(each))
}

func (u unexpired) but(each func(*params.Param) bool) func(*params.Param) bool {
	return func(p *params.Param) bool { return p.Expired(u.now) || each(p) }
}
