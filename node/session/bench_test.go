package session

import (
	"testing"

	"github.com/muster-fleet/muster/node"
)

// BenchmarkTrue opens a session that runs `true`, and waits until its end was heard.
func BenchmarkTrue(b *testing.B) {
	h := open(b, Config{})
	for b.Loop() {
		p := h.attach(h.open(program1("true", "x")), false)
		p.leaves()
	}
}

// BenchmarkEcho types a character at a terminal and waits until it is shown.
func BenchmarkEcho(b *testing.B) {
	h := open(b, Config{})
	id := h.open(onTerminal("stty raw; echo ready; exec cat"))
	p := h.attach(id, true)
	p.sees("ready")
	shown := p.out.watched()
	for b.Loop() {
		p.types("x")
		<-shown
	}
}

// BenchmarkBulk carries output of a program, recorded and not.
func BenchmarkBulk(b *testing.B) {
	for name, way := range map[string]node.SessionRecord{"recorded": node.RecordBestEffort, "not recorded": node.RecordNone} {
		b.Run(name, func(b *testing.B) {
			h := open(b, Config{})
			b.SetBytes(64 << 20)
			for b.Loop() {
				o := program1("head -c 67108864 /dev/zero | tr '\\0' 'a'")
				o.Record = way
				h.attach(h.open(o), false).leaves()
			}
		})
	}
}
