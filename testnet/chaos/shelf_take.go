package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"time"

	"github.com/muster-fleet/muster/testnet/check"
)

// operate asks for one operation and notes what its sender was told. ref is what the operation that it is about came to.
func (t *town) operate(ctx context.Context, a Ask, ref came) (outcome, Result) {
	ctx, stop := context.WithTimeout(ctx, askPatience)
	defer stop()
	out := outcome{asked: time.Now()}
	r := t.d.MusterWith(ctx, a.From, a.stdin(t.canary), a.args(ref)...)
	out.answered = time.Now()
	ack, id := ackOf(a.Kind, r)
	out.came = came{ack: ack, id: id, version: versionOf(r)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take(a, out, ref, r)
	return out, r
}

// shelve notes what an operation tells about the parameters.
func (t *town) shelve(a Ask, out outcome, ref came, r Result) {
	ack, s := out.came.ack, &t.shelf
	t.shelvePuts(a, out, ref, r)
	switch a.Kind {
	case AskDelete:
		s.Deletes = append(s.Deletes, check.ParamDelete{Name: a.Name, Ack: ack, Asked: out.asked, Answered: out.answered})
	case AskLabel:
		s.Moves = append(s.Moves, check.LabelMove{Name: a.Name, Label: a.Label, Version: ref.version, Ack: ack, Asked: out.asked, Answered: out.answered})
	case AskTag, AskUntag:
		if a.Key == ringKey {
			s.Members = append(s.Members, check.Write{What: a.Node, Value: a.Value, Ack: ack, Asked: out.asked, Answered: out.answered})
		}
	case AskGet, AskOpen:
		t.shelveGet(a, out, r)
	case AskRun, AskCancel, AskToken, AskUntoken, AskList, AskShow, AskNodes, AskPut, AskCAS, AskImport, AskSecret, AskRotate:
	}
}

func (t *town) shelvePuts(a Ask, out outcome, ref came, r Result) {
	versions := versionsOf(r)
	for _, name := range a.puts() {
		put := check.ParamPut{Act: a.Op, Name: name, Value: a.value(name, t.canary), Label: a.Label, Lasts: ms(a.LastsMS),
			Told: out.came.version, Ack: out.came.ack, Asked: out.asked, Answered: out.answered}
		switch a.Kind {
		case AskImport:
			put.Told = versions[name]
		case AskCAS:
			put.CAS, put.If = true, ref.version
		}
		t.shelf.Puts = append(t.shelf.Puts, put)
	}
}

// shelveGet notes what somebody was shown. Whoever was told that there is nothing has also seen something.
func (t *town) shelveGet(a Ask, out outcome, r Result) {
	var one shown
	if out.came.ack == check.Accepted && readJSON(r.Stdout, &one) != nil || out.came.ack == check.InDoubt {
		return
	}
	get := check.ParamGet{By: a.From, Name: a.Name, Asked: out.asked.Add(-ms(one.AgeMS)), Answered: out.answered, Version: one.Version}
	open := check.Open{Node: a.From, Name: a.Name, Asked: out.asked, Answered: out.answered}
	if one.Value != nil {
		get.Value, open.Value = *one.Value, *one.Value
	}
	switch {
	case a.Kind == AskGet:
		t.shelf.Gets = append(t.shelf.Gets, get)
	case one.Value != nil:
		t.shelf.Gets, t.shelf.Opens = append(t.shelf.Gets, get), append(t.shelf.Opens, open)
	}
}

// told notes which parameters runs on a host were told, by the notes that they left.
func (t *town) told(host string, all []note) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range all {
		k := heard{n.command, host}
		a, out := t.asks[n.op], t.came[n.op]
		if n.what != "told" || t.toldOf[k] || out == nil || len(n.rest) != 2*md5Text {
			continue
		}
		t.toldOf[k] = true
		get := check.ParamGet{By: host, Name: a.Name, Asked: out.asked, Answered: out.answered, Value: t.valueOf(a.Name, n.rest[:md5Text])}
		if out.came.ack != check.Accepted { // it may have been read until it ran
			get.Answered = n.at
		}
		t.shelf.Gets = append(t.shelf.Gets, get)
		if a.Sealed != "" {
			get.Name, get.Value = a.Sealed, t.valueOf(a.Sealed, n.rest[md5Text:])
			t.shelf.Gets = append(t.shelf.Gets, get)
			t.shelf.Opens = append(t.shelf.Opens, check.Open{Node: host, Name: a.Sealed, Asked: out.asked, Answered: n.at, Value: get.Value})
			t.tally.toldSecrets++
		}
	}
}

// md5Text is how long an MD5 is in hexadecimal.
const md5Text = 2 * md5.Size

// valueOf returns the value of a name that has an MD5, or the MD5 if nobody put such a value.
func (t *town) valueOf(name, sum string) string {
	for _, p := range t.shelf.Puts {
		if raw := md5.Sum([]byte(p.Value)); p.Name == name && hex.EncodeToString(raw[:]) == sum {
			return p.Value
		}
	}
	return "something with the MD5 " + sum
}
