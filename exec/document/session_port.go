package document

import (
	"strconv"

	"github.com/muster-fleet/muster/node/fleet"
)

// portForm is the properties of a document of type Port, with nothing put in.
type portForm struct {
	port, host, local *node // nil: not there
	listens           bool
}

// loopback is where a port is that no host is named for: the node's own.
const loopback = "127.0.0.1"

// readPort reads where connections lead.
func (d *Session) readPort(root, n *node) error {
	if n == nil {
		return refuse(root.line, "properties is missing: a session of type %s has its portNumber there", d.kind)
	}
	f := read(n, "properties", nil)
	f.need("portNumber")
	f.text("host")
	f.text("localPortNumber")
	f.oneOf("localConnectionType", "", "tcp")
	p := &portForm{port: f.raw("portNumber"), host: f.raw("host"), local: f.raw("localPortNumber")}
	p.listens = f.oneOf("type", "", "LocalPortForwarding") != ""
	if err := f.done(); err != nil {
		return err
	}
	if found, err := n.storeRefs(); err != nil || len(found) > 0 {
		return refuse(n.line, "properties: "+noStore)
	}
	if err := d.declares(n); err != nil {
		return err
	}
	d.port = p
	if p.port == nil {
		return refuse(n.line, "properties: portNumber is missing")
	}
	_, err := p.place(resolver{d: d.doc, trial: true})
	return err
}

// place puts values in. In a trial only what no value changes is judged.
func (p *portForm) place(r resolver) (out SessionPlace, err error) {
	if out.Port, err = p.number(r, p.port, "portNumber", 1); err != nil {
		return out, err
	}
	if out.Local, err = p.number(r, p.local, "localPortNumber", 0); err != nil {
		return out, err
	}
	out.Host, out.Listens = loopback, p.listens
	if p.host == nil || p.host.text == "" {
		return out, nil
	}
	text, known, err := r.text(p.host.text, p.host.line)
	switch {
	case err != nil || !known:
		return out, err
	case text == "":
		return out, fleet.Errorf(fleet.Invalid, "host is empty")
	}
	out.Host = text
	return out, nil
}

// number reads a port.
func (p *portForm) number(r resolver, n *node, key string, least uint64) (uint16, error) {
	if n == nil {
		return 0, nil
	}
	text, known, err := r.text(n.text, n.line)
	if err != nil || !known || text == "" && least == 0 {
		return 0, err
	}
	v, err := strconv.ParseUint(text, 10, 16)
	if err != nil || v < least {
		return 0, refuse(n.line, "%s is %d to 65535, not %q", key, least, clip(text))
	}
	return uint16(v), nil
}

// Listens reports whether a session of type Port is for a port at the end of whoever opens it, and not for standard input and
// output.
func (d *Session) Listens() bool { return d.port != nil && d.port.listens }
