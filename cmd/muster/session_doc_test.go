package main

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/transport"
)

// publications lists all that the town has.
func (d *door) publications() (all []auth.Envelope) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	for _, doc := range d.w.state.Documents() {
		for _, v := range doc.Versions {
			all = append(all, v.Statement)
		}
	}
	return all
}

// document gives a document to whoever may have a session by it, as true nodes do.
func (d *door) document(s *transport.Stream, body []byte) error {
	ask, err := node.DecodeSessionDocumentAsk(body)
	if err != nil {
		return err
	}
	read, op, err := node.OpenDocumentRead(ask.Statement, d.record(), d.node.ID, true, time.Now())
	if err != nil {
		return err
	}
	name, selector, _ := strings.Cut(read.Name, ":")
	d.w.mu.Lock()
	doc, ok := d.w.state.Document(name)
	d.w.mu.Unlock()
	if !ok {
		return fleet.Errorf(fleet.NotFound, "no document %s", name)
	}
	v, err := node.FindVersion(doc, selector)
	if err == nil {
		err = node.MayHaveDocument(v.Statement, ask, op, d.record(), d.host(), time.Now())
	}
	if err != nil {
		return err
	}
	return s.WriteFrame(node.SessionDocument, node.SessionDocumentAnswer{Version: v.Number, Publication: v.Statement}.Encode())
}

// A document that is built in says where a tunnel leads and where it begins.
func TestForwardByDocument(t *testing.T) {
	t.Parallel()
	to := answering(t)
	_, port, _ := net.SplitHostPort(to)
	d := newDesk(t, strings.NewReader(""))
	d.types("-o", "json", "forward", "web01", "--doc", "AWS-StartPortForwardingSession", "--param", "portNumber="+port, "--param", "localPortNumber=0")
	errs := lines(d.errs)
	var begin struct{ Local, To, Node string }
	if err := json.NewDecoder(d.out).Decode(&begin); err != nil {
		t.Fatal(err, <-errs)
	}
	if begin.To != "127.0.0.1:"+port || begin.Node != "web01" || !strings.HasPrefix(begin.Local, "127.0.0.1:") {
		t.Errorf("%+v", begin)
	}
	l, err := net.ResolveTCPAddr("tcp", begin.Local)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := askThrough(l, "hello"); got != "HELLO" {
		t.Error(got, err)
	}
	d.door().forget() // it is opened anew, by the same document
	if got, err := askThrough(l, "again"); got != "AGAIN" {
		t.Error(got, err)
	}
	for _, s := range d.door().states() {
		if want := `AWS-StartPortForwardingSession:1 localPortNumber="0" portNumber="` + port + `"`; s.Text() != want || len(s.Forward) != 1 {
			t.Errorf("%s", s.Text())
		}
	}
	d.door().killTunnels("enough")
	if code := <-d.code; code != exitOurs {
		t.Errorf("exit %d", code)
	}
}

func TestSSHProxyByDocument(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(answering(t))
	d := newDesk(t, strings.NewReader("ssh-2.0"))
	d.types("ssh-proxy", "web01", "--doc", "AWS-StartSSHSession", "--param", "portNumber="+port)
	errs := lines(d.errs)
	if got, err := io.ReadAll(d.out); string(got) != "SSH-2.0" || err != nil {
		t.Errorf("%q %v; %s", got, err, <-errs)
	}
	if code := <-d.code; code != 0 {
		t.Errorf("exit %d", code)
	}
}

// muster shell runs a document's commands on this terminal.
func TestShellByDocument(t *testing.T) {
	t.Parallel()
	p := sitDown(t, "shell", "web01", "--doc", "AWS-StartInteractiveCommand", "--param", "command=stty size; read line; echo got $line; exit 4")
	p.sees("30 100")
	p.types("word\r")
	p.sees("got word")
	p.exits(4)
}
