package document

import (
	"fmt"
	"strings"
	"time"
)

// Help returns what a person needs to open sessions by the document that is called name.
func (d *Session) Help(name string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s (schema %s, %s)\n", name, d.Schema(), d.kind)
	if text := strings.TrimSpace(d.Description()); text != "" {
		fmt.Fprintf(&out, "%s\n", text)
	}
	if d.RawShell() {
		out.WriteString("Whoever opens it decides what code runs: policy treats it as raw shell.\n")
	}
	for i, p := range d.doc.parameters {
		if i == 0 {
			out.WriteString("\nParameters:\n")
		}
		p.help(&out)
	}
	out.WriteString("\nSession:\n")
	for _, line := range d.lines() {
		fmt.Fprintf(&out, "  %s\n", line)
	}
	fmt.Fprintf(&out, "\nExample:\n  %s\n", d.example(name))
	return out.String()
}

// lines says what a session by the document is.
func (d *Session) lines() []string {
	out := []string{d.is()}
	switch {
	case d.kind == PortSession:
	case d.user != "":
		out = append(out, "as "+d.user)
	case d.anyUser:
		out = append(out, "as the account that --user names, else the node's own for sessions")
	default:
		out = append(out, "as the node's own account for sessions")
	}
	if d.idle > 0 {
		out = append(out, "idle for "+span(d.idle)+" at most")
	}
	if d.most > 0 {
		out = append(out, span(d.most)+" long at most")
	}
	return out
}

func (d *Session) is() string {
	switch d.kind {
	case InteractiveCommands:
		return "commands on a terminal"
	case NonInteractiveCommands:
		return "commands without a terminal, and without input"
	case PortSession:
		host := loopback
		if n := d.port.host; n != nil && n.text != "" {
			host = n.text
		}
		to := "to " + host + ", port " + d.port.port.text
		if d.port.listens {
			return "connections from a port here " + to
		}
		return "standard input and output " + to
	case StandardStream:
	}
	if d.profile != "" {
		return "a login shell, which begins with the lines of shellProfile"
	}
	return "a login shell"
}

func span(d time.Duration) string { return fmt.Sprintf("%d minutes", d/time.Minute) }

func (d *Session) example(name string) string {
	verb := "shell"
	switch d.kind {
	case NonInteractiveCommands:
		verb = "exec"
	case PortSession:
		verb = "ssh-proxy"
		if d.port.listens {
			verb = "forward"
		}
	case StandardStream, InteractiveCommands:
	}
	out := "muster " + verb + " NODE --doc " + name
	for _, p := range d.doc.parameters {
		if p.Required {
			out += " --param " + p.Name + "=" + p.sample()
		}
	}
	return out
}
