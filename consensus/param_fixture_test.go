package consensus

import (
	"time"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// change makes a change of parameters by the operator.
func (q *quorum) change(edits ...edit) PutParams { return q.changeBy(q.Operator, edits...) }

// edit is one operation, and the content of its Put.
type edit struct {
	op      params.Op
	content []byte
}

func (q *quorum) changeBy(op auth.Signer, edits ...edit) PutParams {
	header := q.Header(10 * time.Minute)
	var ops []params.Op
	var contents [][]byte
	for _, e := range edits {
		if len(e.op.Put) > 0 {
			if e.op.Put[0].Version == 1 && e.op.Put[0].Born == 0 {
				e.op.Put[0].Born = header.Issued
			}
			contents = append(contents, e.content)
		}
		if e.op.Salt.IsZero() {
			e.op.Salt = q.NewID()
		}
		ops = append(ops, e.op)
	}
	change, bodies := params.Commit(header, ops)
	return PutParams{op.Sign(auth.ForParams, q.ID(), change), bodies, contents}
}

// set is the Put of a plain value as the version that follows. alter, which may be nil, changes it.
func (q *quorum) set(name, value string, alter func(*params.Put)) edit {
	content := params.PlainContent([]byte(value)).Encode()
	put := params.Put{
		Name: name, Version: 1, Type: params.String, DataType: params.DataText, Digest: fleet.Sum(content), Size: uint32(len(value)), Tier: params.Standard,
	}
	if p, ok := q.s.Param(name); ok {
		put.Born, put.Version, put.Tier = p.Born, p.Last+1, p.Newest().Put.Tier
	}
	if alter != nil {
		alter(&put)
	}
	return edit{params.Op{Put: []params.Put{put}}, content}
}

func (q *quorum) unset(name string) edit {
	d := params.Delete{Name: name, Version: 1, Born: q.Now.UnixMilli()}
	if p, ok := q.s.Param(name); ok {
		d.Version, d.Born = p.Last, p.Born
	}
	return edit{op: params.Op{Delete: []params.Delete{d}}}
}

func (q *quorum) labelled(name string, version uint32, labels ...string) edit {
	l := params.Label{Name: name, Version: version, Add: labels, Born: q.Now.UnixMilli(), Seq: 1}
	if p, ok := q.s.Param(name); ok {
		l.Born, l.Seq = p.Born, p.Seq+1
	}
	return edit{op: params.Op{Label: []params.Label{l}}}
}

// peekChange returns what a change says, which nobody has verified.
func peekChange(e PutParams) (params.Change, error) { return auth.Peek[params.Change](e.Statement) }
