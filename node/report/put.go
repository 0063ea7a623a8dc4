package report

import (
	"go.etcd.io/bbolt"

	"github.com/muster-fleet/muster/exec"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// MaxFacts bounds the body of a facts statement, in bytes.
const MaxFacts = 64 << 10

// Put stores a report, unless the one that is there counts more (exec.Supersedes). It is on the disk when Put returns
// nil, also when it was dropped as superseded. r is what exec.OpenReport made of signed: Put does not verify. Errors:
// Invalid, Exhausted (the disk or the store is full; nothing of the report is kept), Unavailable (closed).
func (s *Store) Put(r exec.Report, signed auth.Envelope) error {
	switch {
	case r.Command.IsZero() || r.Seq == 0:
		return fleet.Errorf(fleet.Invalid, "report by node %s that names no command or sequence", r.Node)
	case signed.Key != r.Node:
		return fleet.Errorf(fleet.Invalid, "report of node %s in a statement by %s", r.Node, signed.Key)
	case len(signed.Body) > exec.MaxReport || len(signed.Signature) > maxSignature:
		return fleet.Errorf(fleet.Invalid, "report of %d bytes by node %s; the limit is %d", len(signed.Body), r.Node, exec.MaxReport)
	}
	now := s.o.Now().UnixMilli()
	value := sealEntry(r.Command[:], r.Node[:], now, signed)
	w := &write{grows: true, after: func() {
		s.kept.Add(1)
		s.tell(r.Command, r.Node)
	}}
	w.change = func(tx *bbolt.Tx) error {
		reports := tx.Bucket(bucketReports)
		b := reports.Bucket(r.Command[:])
		if b != nil && s.superseded(b, r) {
			return nil
		}
		w.changed = true
		if b == nil {
			var err error
			if b, err = reports.CreateBucket(r.Command[:]); err != nil {
				return err
			}
			if err = tx.Bucket(bucketAge).Put(ageKey(now, r.Command[:]), nil); err != nil {
				return err
			}
		}
		return b.Put(r.Node[:], value)
	}
	return s.commit(w)
}

func (s *Store) superseded(b *bbolt.Bucket, r exec.Report) bool {
	e, ok := s.read(r.Command[:], r.Node[:], b.Get(r.Node[:]))
	if !ok {
		return false
	}
	old, err := auth.Peek[exec.Report](e) // verified before it was stored
	return err == nil && !exec.Supersedes(old, r)
}

// PutFacts stores a node's facts statement, unless the one that is there was issued later. The caller has verified that
// node signed it. Errors are those of Put.
func (s *Store) PutFacts(node fleet.ID, signed auth.Envelope) error {
	switch {
	case signed.Key != node:
		return fleet.Errorf(fleet.Invalid, "facts of node %s in a statement by %s", node, signed.Key)
	case len(signed.Body) > MaxFacts || len(signed.Signature) > maxSignature:
		return fleet.Errorf(fleet.Invalid, "facts of %d bytes by node %s; the limit is %d", len(signed.Body), node, MaxFacts)
	}
	value := sealEntry(bucketFacts, node[:], s.o.Now().UnixMilli(), signed)
	made := issued(signed.Body)
	w := &write{grows: true}
	w.change = func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketFacts)
		old, ok := s.read(bucketFacts, node[:], b.Get(node[:]))
		if ok && (issued(old.Body) > made || string(old.Body) == string(signed.Body)) {
			return nil
		}
		w.changed = true
		return b.Put(node[:], value)
	}
	return s.commit(w)
}
